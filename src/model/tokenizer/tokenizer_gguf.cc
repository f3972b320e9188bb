#include "model/tokenizer/tokenizer_gguf.h"

#include <fmt/format.h>

#include <cmath>

#include "base/digest.h"
#include "base/text.h"
#include "model/json_text.h"
#include "model/tokenizer/gguf_pre_tokenizers.h"

namespace pd::model::tokenizing {
namespace {

// tokenizer.ggml.token_type
enum TokenType : std::int64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

std::string key(std::string_view name) { return fmt::format("tokenizer.ggml.{}", name); }

std::unexpected<Error> wrong(const Gguf& gguf, std::string_view name, std::string_view what) {
  return error(ErrorCode::kInvalidArgument,
               fmt::format("{}: {}: {}", gguf.name(), key(name), what));
}

struct Source {
  const Gguf& gguf;
  const std::vector<std::string>& tokens;
  std::vector<std::int64_t> types;  // as long as tokens

  std::int64_t type(TokenId id) const { return types[static_cast<std::size_t>(id)]; }
};

Result<Source> open_source(const Gguf& gguf) {
  const auto* tokens = gguf.strings(key("tokens"));
  if (tokens == nullptr) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: no tokenizer: {} is missing", gguf.name(), key("tokens")));
  }
  Source out{gguf, *tokens, {}};
  if (const auto* types = gguf.integers(key("token_type"))) {
    if (types->size() != tokens->size()) {
      return wrong(gguf, "token_type",
                   fmt::format("{} values for {} tokens", types->size(), tokens->size()));
    }
    out.types = *types;
  } else {
    out.types.assign(tokens->size(), kNormal);
  }
  return out;
}

Result<Vocabulary> read_vocabulary(const Source& source) {
  std::vector<Vocabulary::Token> tokens;
  tokens.reserve(source.tokens.size());
  for (std::size_t id = 0; id < source.tokens.size(); ++id) {
    const std::string& text = source.tokens[id];
    if (!is_valid_utf8(text))
      return wrong(source.gguf, "tokens", fmt::format("token {} is not UTF-8", id));
    tokens.push_back({text, static_cast<std::int64_t>(id)});
  }
  return Vocabulary::create(tokens, fmt::format("{}: {}", source.gguf.name(), key("tokens")));
}

// Control and user-defined tokens are found in the text first; only the latter are ordinary text.
Status read_added_tokens(const Source& source, TokenizerParts& parts) {
  for (TokenId id = 0; id < parts.vocabulary.size(); ++id) {
    const std::int64_t type = source.type(id);
    if (type != kControl && type != kUserDefined && type != kUnknown) continue;
    AddedToken token;
    token.id = id;
    token.content = source.tokens[static_cast<std::size_t>(id)];
    token.special = type != kUserDefined;
    if (token.special) parts.vocabulary.mark_special(id);
    if (token.content.empty()) continue;
    if (auto added = parts.added.add(std::move(token), ""); !added) {
      return wrong(source.gguf, "tokens", added.error().message);
    }
  }
  return {};
}

Result<std::optional<TokenId>> read_id(const Source& source, std::string_view name) {
  const auto id = source.gguf.integer(key(name));
  if (!id) return std::nullopt;
  if (*id < 0 || static_cast<std::size_t>(*id) >= source.tokens.size()) {
    return wrong(source.gguf, name, fmt::format("{} is not in the vocabulary", *id));
  }
  return static_cast<TokenId>(*id);
}

Status read_surroundings(const Source& source, bool add_bos, TokenizerParts& parts) {
  const auto bos = read_id(source, "bos_token_id");
  if (!bos) return std::unexpected(bos.error());
  const auto eos = read_id(source, "eos_token_id");
  if (!eos) return std::unexpected(eos.error());
  parts.bos = *bos;
  parts.eos = *eos;
  const auto said = source.gguf.boolean(key("add_bos_token"));
  if (said.value_or(add_bos) && parts.bos) parts.before.push_back(*parts.bos);
  if (said.value_or(false) && !parts.bos) {
    return wrong(source.gguf, "add_bos_token", "is true, but there is no bos_token_id");
  }
  if (source.gguf.boolean(key("add_eos_token")).value_or(false)) {
    if (!parts.eos) {
      return wrong(source.gguf, "add_eos_token", "is true, but there is no eos_token_id");
    }
    parts.behind.push_back(*parts.eos);
  }
  return {};
}

// SentencePiece: spaces become U+2581, one stands before each stretch of text, and merges follow
// from the scores.
Status read_llama(const Source& source, TokenizerParts& parts) {
  const auto* scores = source.gguf.numbers(key("scores"));
  if (scores == nullptr || scores->size() != source.tokens.size()) {
    return wrong(source.gguf, "scores", "one number per token is needed");
  }
  for (const double score : *scores) {
    if (!std::isfinite(score)) return wrong(source.gguf, "scores", "must be finite");
  }
  std::vector<bool> in_text;
  for (const std::int64_t type : source.types) {
    in_text.push_back(type != kControl && type != kUnknown && type != kByte);
  }
  BpeRules rules;
  rules.byte_fallback = true;
  const auto unk = read_id(source, "unknown_token_id");
  if (!unk) return std::unexpected(unk.error());
  rules.unk = *unk;
  parts.model = BpeModel::from_scores(parts.vocabulary, *scores, in_text, rules);

  const bool prefix = source.gguf.boolean(key("add_space_prefix")).value_or(true);
  if (prefix) parts.normalizer.add(normalize::Prepend{std::string(kSpaceMark)});
  auto space = Pattern::literal(" ");
  if (!space) return std::unexpected(space.error());
  parts.normalizer.add(normalize::Replace{std::move(*space), std::string(kSpaceMark)});

  std::vector<decode::Step> steps = {decode::Replace{std::string(kSpaceMark), " "},
                                     decode::ByteFallback{}, decode::Fuse{}};
  if (prefix) steps.emplace_back(decode::Strip{" ", 1, 0});
  for (auto& step : steps) {
    if (auto added = parts.decoder.add(std::move(step)); !added) return added;
  }
  return read_surroundings(source, true, parts);
}

Result<std::vector<RankedMerge>> read_merges(const Source& source, const Vocabulary& vocabulary) {
  const auto* lines = source.gguf.strings(key("merges"));
  if (lines == nullptr) return wrong(source.gguf, "merges", "is missing");
  std::vector<RankedMerge> out;
  std::string merged;
  for (const std::string& line : *lines) {
    // A token may be a space only in the byte alphabet's spelling, so the first one behind the
    // first character separates.
    const std::size_t space = line.find(' ', 1);
    if (space == std::string::npos) {
      return wrong(source.gguf, "merges", fmt::format("{} is not two tokens", quote(line)));
    }
    const std::string_view left = std::string_view(line).substr(0, space);
    const std::string_view right = std::string_view(line).substr(space + 1);
    merged.assign(left).append(right);
    const auto left_id = vocabulary.find(left);
    const auto right_id = vocabulary.find(right);
    const auto merged_id = vocabulary.find(merged);
    if (!left_id || !right_id || !merged_id) {
      return wrong(source.gguf, "merges",
                   fmt::format("{} names a token outside the vocabulary", quote(line)));
    }
    out.push_back({*left_id, *right_id, *merged_id});
  }
  return out;
}

Status read_gpt2(const Source& source, TokenizerParts& parts) {
  const std::string* name = source.gguf.string(key("pre"));
  const std::string_view pre = name == nullptr ? "default" : std::string_view(*name);
  const GgufPreTokenizer* known = gguf_pre_tokenizer(pre);
  if (known == nullptr) {
    return error(ErrorCode::kUnsupported,
                 fmt::format("{}: {}: the pre-tokenizer {} is not supported; use the model's "
                             "tokenizer.json",
                             source.gguf.name(), key("pre"), quote(pre)));
  }
  if (known->nfc) parts.normalizer.add(NormalForm::kNfc);
  for (const std::string_view expression : known->expressions) {
    if (expression.empty()) continue;
    auto pattern = Pattern::regex(expression);
    if (!pattern) return std::unexpected(pattern.error());
    parts.pre_tokenizer.add(cut::Split{std::move(*pattern), SplitBehavior::kIsolated, false});
  }
  parts.pre_tokenizer.add(cut::ByteLevel{});
  const auto merges = read_merges(source, parts.vocabulary);
  if (!merges) return std::unexpected(merges.error());
  BpeRules rules;
  rules.byte_level = true;
  rules.ignore_merges = known->ignore_merges;
  parts.model =
      BpeModel::from_merges(parts.vocabulary, *merges, DuplicateMerge::kFirstCounts, rules);
  if (auto added = parts.decoder.add(decode::ByteLevel{}); !added) return added;
  return read_surroundings(source, known->add_bos, parts);
}

std::uint64_t digest_of(const Source& source, const TokenizerParts& parts) {
  Digest64 out;
  const auto feed = [&](std::string_view text) {
    const std::uint64_t size = text.size();
    out.update(std::as_bytes(std::span(&size, 1)));
    out.update(std::as_bytes(std::span(text.data(), text.size())));
  };
  for (const std::string& token : source.tokens) feed(token);
  out.update(std::as_bytes(std::span(source.types)));
  if (const auto* scores = source.gguf.numbers(key("scores"))) {
    out.update(std::as_bytes(std::span(*scores)));
  }
  if (const auto* merges = source.gguf.strings(key("merges"))) {
    for (const std::string& merge : *merges) feed(merge);
  }
  for (const std::string_view name : {"model", "pre"}) {
    if (const auto* text = source.gguf.string(key(name))) feed(*text);
  }
  feed(source.gguf.boolean(key("add_space_prefix")).value_or(true) ? "prefix" : "");
  out.update(std::as_bytes(std::span(parts.before)));
  out.update(std::as_bytes(std::span(parts.behind)));
  return out.value();
}

}  // namespace

Result<TokenizerParts> read_tokenizer_gguf(const Gguf& gguf) {
  const auto source = open_source(gguf);
  if (!source) return std::unexpected(source.error());
  TokenizerParts parts;
  auto vocabulary = read_vocabulary(*source);
  if (!vocabulary) return std::unexpected(vocabulary.error());
  parts.vocabulary = std::move(*vocabulary);
  const std::string* model = gguf.string(key("model"));
  if (model == nullptr) return wrong(gguf, "model", "is missing");
  if (*model != "llama" && *model != "gpt2") {
    return error(ErrorCode::kUnsupported,
                 fmt::format("{}: {}: {} is not supported, only llama and gpt2", gguf.name(),
                             key("model"), quote(*model)));
  }
  auto read = *model == "llama" ? read_llama(*source, parts) : read_gpt2(*source, parts);
  if (read) read = read_added_tokens(*source, parts);
  if (!read) return std::unexpected(read.error());
  parts.digest = digest_of(*source, parts);
  return parts;
}

}  // namespace pd::model::tokenizing
