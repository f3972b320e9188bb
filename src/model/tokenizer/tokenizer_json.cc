#include "model/tokenizer/tokenizer_json.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>

#include "base/digest.h"
#include "base/log.h"
#include "model/json_text.h"
#include "model/tokenizer/json_view.h"
#include "model/tokenizer/steps_json.h"

namespace pd::model::tokenizing {
namespace {

constexpr std::size_t kDepthMax = 64;  // vendors' files stay below 10

// The document lives in `parser`.
Result<JsonView> parse(simdjson::dom::parser& parser, std::string_view json,
                       const std::string& name) {
  if (json.size() > kTokenizerJsonBytesMax) {
    return error(ErrorCode::kTooLarge, fmt::format("{}: {} bytes, more than the limit of {}", name,
                                                   json.size(), kTokenizerJsonBytesMax));
  }
  simdjson::dom::element document;
  auto failed = parser.allocate(json.size(), kDepthMax);
  if (!failed) {
    failed = parser.parse(reinterpret_cast<const std::uint8_t*>(json.data()), json.size(), true)
                 .get(document);
  }
  if (failed) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: not JSON: {}", name, simdjson::error_message(failed)));
  }
  if (!document.is_object()) {
    return error(ErrorCode::kInvalidArgument, fmt::format("{}: must be an object", name));
  }
  return JsonView(document, name);
}

std::uint64_t digest_of(std::string_view text, std::uint64_t seed) {
  return digest64(std::as_bytes(std::span(text.data(), text.size())), seed);
}

Result<Vocabulary> read_vocabulary(const JsonView& model) {
  const auto member = model.member("vocab");
  if (!member) return model.wrong("the object \"vocab\" is missing");
  const auto object = member->object();
  if (!object) return std::unexpected(object.error());
  std::vector<Vocabulary::Token> tokens;
  for (const auto [key, value] : *object) {
    std::int64_t id = 0;
    if (value.get(id) != simdjson::SUCCESS) {
      return member->wrong(fmt::format("the id of {} must be an integer", quote(key)));
    }
    tokens.push_back({key, id});
  }
  return Vocabulary::create(tokens, member->path());
}

// A merge is "left right" or ["left", "right"].
Result<std::pair<std::string_view, std::string_view>> merge_texts(const JsonView& merges,
                                                                  simdjson::dom::element item,
                                                                  std::size_t index) {
  std::string_view line;
  if (item.get(line) == simdjson::SUCCESS) {
    const std::size_t space = line.find(' ');
    if (space != std::string_view::npos && line.find(' ', space + 1) == std::string_view::npos) {
      return std::pair{line.substr(0, space), line.substr(space + 1)};
    }
  }
  simdjson::dom::array pair;
  std::string_view left;
  std::string_view right;
  if (item.get(pair) == simdjson::SUCCESS && pair.size() == 2 &&
      pair.at(0).get(left) == simdjson::SUCCESS && pair.at(1).get(right) == simdjson::SUCCESS) {
    return std::pair{left, right};
  }
  return merges.item(item, index).wrong("must be two texts, as an array or with a space between");
}

Result<std::vector<RankedMerge>> read_merges(const JsonView& model, const Vocabulary& vocabulary) {
  const auto member = model.member("merges");
  if (!member) return model.wrong("the array \"merges\" is missing");
  const auto array = member->array();
  if (!array) return std::unexpected(array.error());
  std::vector<RankedMerge> out;
  std::string merged;
  std::size_t index = 0;
  for (const auto item : *array) {
    std::string_view line;
    if (item.get(line) == simdjson::SUCCESS && line.starts_with("#version")) {
      ++index;
      continue;
    }
    const auto texts = merge_texts(*member, item, index);
    if (!texts) return std::unexpected(texts.error());
    merged.assign(texts->first).append(texts->second);
    const auto left = vocabulary.find(texts->first);
    const auto right = vocabulary.find(texts->second);
    const auto whole = vocabulary.find(merged);
    if (!left || !right || !whole) {
      return member->item(item, index)
          .wrong(fmt::format("{} is not in the vocabulary", quote(!left    ? texts->first
                                                                  : !right ? texts->second
                                                                           : merged)));
    }
    out.push_back({*left, *right, *whole});
    ++index;
  }
  return out;
}

Result<BpeRules> read_rules(const JsonView& model, const Vocabulary& vocabulary, bool byte_level) {
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.member(key)) continue;
    const auto text = model.text_member(key);
    if (!text) return std::unexpected(text.error());
    if (!text->empty()) return model.unsupported(fmt::format("a \"{}\"", key));
  }
  if (const auto dropout = model.member("dropout")) {
    double value = 1;
    if (dropout->element().get(value) != simdjson::SUCCESS || value != 0) {
      return dropout->unsupported("dropout, which makes encoding random");
    }
  }
  BpeRules rules;
  const auto read = [&](std::string_view key, bool& into) -> Status {
    const auto value = model.boolean_member(key, false);
    if (!value) return std::unexpected(value.error());
    into = *value;
    return {};
  };
  if (auto done = read("byte_fallback", rules.byte_fallback); !done) {
    return std::unexpected(done.error());
  }
  if (auto done = read("fuse_unk", rules.fuse_unk); !done) return std::unexpected(done.error());
  if (auto done = read("ignore_merges", rules.ignore_merges); !done) {
    return std::unexpected(done.error());
  }
  if (model.member("unk_token")) {
    const auto text = model.text_member("unk_token");
    if (!text) return std::unexpected(text.error());
    rules.unk = vocabulary.find(*text);
    // A byte-level vocabulary never meets an unknown character, and some name a token they lack.
    if (!rules.unk && !byte_level) {
      return model.wrong(fmt::format("unk_token {} is not in the vocabulary", quote(*text)));
    }
  }
  rules.byte_level = byte_level;
  return rules;
}

// The id the reference gives an added token that the model does not have: behind the model's
// vocabulary and behind all added tokens so far, whatever the file says.
TokenId next_added_id(const AddedTokens& added, std::size_t model_tokens) {
  const auto& by_id = added.by_id();
  const auto first = static_cast<TokenId>(model_tokens);
  if (by_id.empty()) return first;
  const TokenId largest = by_id.rbegin()->first;
  return largest >= first || first == 0 ? largest + 1 : first;
}

Result<AddedToken> read_added_token(const JsonView& item) {
  AddedToken out;
  const auto content = item.text_member("content");
  if (!content) return std::unexpected(content.error());
  out.content = *content;
  const std::initializer_list<std::pair<std::string_view, bool*>> flags = {
      {"single_word", &out.single_word},
      {"lstrip", &out.lstrip},
      {"rstrip", &out.rstrip},
      {"normalized", &out.normalized},
      {"special", &out.special}};
  for (const auto& [key, into] : flags) {
    const auto value = item.boolean_member(key);
    if (!value) return std::unexpected(value.error());
    *into = *value;
  }
  return out;
}

Status read_added_tokens(const JsonView& document, TokenizerParts& parts) {
  const auto member = document.member("added_tokens");
  if (!member) return {};
  const auto array = member->array();
  if (!array) return std::unexpected(array.error());
  const std::size_t model_tokens = parts.vocabulary.count();
  RegexScratch scratch;
  std::size_t index = 0;
  std::size_t moved_ids = 0;
  for (const auto element : *array) {
    const JsonView item = member->item(element, index++);
    auto token = read_added_token(item);
    if (!token) return std::unexpected(token.error());
    if (token->content.empty()) continue;
    const auto said = item.integer_member("id");
    if (!said) return std::unexpected(said.error());
    const auto known = parts.vocabulary.find(token->content);
    token->id = known ? *known : next_added_id(parts.added, model_tokens);
    if (*said != token->id && moved_ids++ == 0) {
      log::warn(
          "{}: the id is {}, not {} as the file says: ids of added tokens follow from their "
          "places (said once per file)",
          item.path(), token->id, *said);
    }
    if (!known) {
      if (auto added = parts.vocabulary.add(token->content, token->id); !added) return added;
    }
    if (token->special) parts.vocabulary.mark_special(token->id);
    bool moved = false;
    const auto normal = parts.normalizer.apply(token->content, scratch, moved);
    if (!normal) return item.wrong(normal.error().message);
    if (auto added = parts.added.add(std::move(*token), *normal); !added) {
      return item.unsupported(added.error().message);
    }
  }
  return {};
}

Status read_model(const JsonView& document, TokenizerParts& parts) {
  const auto model = document.member("model");
  if (!model) return document.wrong("the object \"model\" is missing");
  const auto type = model->member("type");
  if (type) {
    const auto name = type->text();
    if (!name) return std::unexpected(name.error());
    if (*name != "BPE") {
      return type->unsupported(
          fmt::format("the model {} is not supported, only BPE", quote(*name)));
    }
  } else if (!model->member("merges")) {
    return model->unsupported("without a type and merges this is not BPE");
  }
  auto vocabulary = read_vocabulary(*model);
  if (!vocabulary) return std::unexpected(vocabulary.error());
  parts.vocabulary = std::move(*vocabulary);
  auto rules = read_rules(*model, parts.vocabulary, parts.pre_tokenizer.byte_level());
  if (!rules) return std::unexpected(rules.error());
  const auto merges = read_merges(*model, parts.vocabulary);
  if (!merges) return std::unexpected(merges.error());
  parts.model =
      BpeModel::from_merges(parts.vocabulary, *merges, DuplicateMerge::kLastCounts, *rules);
  return {};
}

}  // namespace

Result<TokenizerParts> read_tokenizer_json(std::string_view json, const std::string& name) {
  simdjson::dom::parser parser;
  const auto document = parse(parser, json, name);
  if (!document) return std::unexpected(document.error());
  TokenizerParts parts;
  if (const auto section = document->member("normalizer")) {
    auto read = read_normalizer(*section);
    if (!read) return std::unexpected(read.error());
    parts.normalizer = std::move(*read);
  }
  if (const auto section = document->member("pre_tokenizer")) {
    auto read = read_pre_tokenizer(*section);
    if (!read) return std::unexpected(read.error());
    parts.pre_tokenizer = std::move(*read);
  }
  if (const auto section = document->member("decoder")) {
    auto read = read_decoder(*section);
    if (!read) return std::unexpected(read.error());
    parts.decoder = std::move(*read);
  }
  if (auto read = read_model(*document, parts); !read) return std::unexpected(read.error());
  if (auto read = read_added_tokens(*document, parts); !read) return std::unexpected(read.error());
  if (const auto section = document->member("post_processor")) {
    auto read = read_post_processor(*section, parts.vocabulary);
    if (!read) return std::unexpected(read.error());
    parts.before = std::move(read->before);
    parts.behind = std::move(read->behind);
  }
  if (!parts.before.empty()) parts.bos = parts.before.front();
  parts.digest = digest_of(simdjson::minify(document->element()), 0);
  return parts;
}

}  // namespace pd::model::tokenizing
