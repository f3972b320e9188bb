#include "model/tokenizer/steps_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <string>

#include "model/json_text.h"
#include "model/tokenizer/unicode.h"

namespace pd::model::tokenizing {
namespace {

// Calls `read` for the section, or for each of its parts in order when it is a Sequence of `list`.
using ReadStep = std::function<Status(const JsonView&, std::string_view type)>;
Status for_each_step(const JsonView& section, std::string_view list, std::size_t& steps,
                     const ReadStep& read) {
  const auto type = section.text_member("type");
  if (!type) return std::unexpected(type.error());
  if (*type != "Sequence") {
    if (++steps > kStepsMax) return section.unsupported("more than 64 steps");
    return read(section, *type);
  }
  const auto member = section.member(list);
  if (!member) return section.wrong(fmt::format("the array \"{}\" is missing", list));
  const auto items = member->array();
  if (!items) return std::unexpected(items.error());
  std::size_t index = 0;
  for (const auto item : *items) {
    const auto done = for_each_step(member->item(item, index++), list, steps, read);
    if (!done) return done;
  }
  return {};
}

Status unknown_type(const JsonView& section, std::string_view kind, std::string_view type) {
  return section.unsupported(fmt::format("the {} type {} is not supported", kind, quote(type)));
}

// An error of a part that knows no paths, with the path.
template <typename T>
Result<T> at_path(const JsonView& section, Result<T> result) {
  if (result) return result;
  return error(result.error().code, fmt::format("{}: {}", section.path(), result.error().message));
}

Result<Pattern> read_pattern(const JsonView& step) {
  const auto pattern = step.member("pattern");
  if (!pattern) return step.wrong("the object \"pattern\" is missing");
  if (const auto literal = pattern->member("String")) {
    const auto text = literal->text();
    if (!text) return std::unexpected(text.error());
    return at_path(*literal, Pattern::literal(std::string(*text)));
  }
  if (const auto regex = pattern->member("Regex")) {
    const auto text = regex->text();
    if (!text) return std::unexpected(text.error());
    return at_path(*regex, Pattern::regex(*text));
  }
  return pattern->wrong("must have a \"String\" or a \"Regex\"");
}

// A member that must be exactly one character.
Result<std::string> read_character(const JsonView& step, std::string_view key) {
  const auto text = step.text_member(key);
  if (!text) return std::unexpected(text.error());
  if (text->empty() || character_length(text->front()) != text->size()) {
    return step.wrong(fmt::format("\"{}\" must be one character", key));
  }
  return std::string(*text);
}

}  // namespace

namespace {

Result<normalize::Step> read_normalizer_step(const JsonView& step, std::string_view type) {
  if (type == "NFC") return NormalForm::kNfc;
  if (type == "NFD") return NormalForm::kNfd;
  if (type == "NFKC") return NormalForm::kNfkc;
  if (type == "NFKD") return NormalForm::kNfkd;
  if (type == "Lowercase") return normalize::Lowercase{};
  if (type == "StripAccents") return normalize::StripAccents{};
  if (type == "Prepend") {
    const auto text = step.text_member("prepend");
    if (!text) return std::unexpected(text.error());
    return normalize::Prepend{std::string(*text)};
  }
  if (type == "Strip") {
    const auto left = step.boolean_member("strip_left");
    if (!left) return std::unexpected(left.error());
    const auto right = step.boolean_member("strip_right");
    if (!right) return std::unexpected(right.error());
    return normalize::Strip{*left, *right};
  }
  if (type == "Replace") {
    auto pattern = read_pattern(step);
    if (!pattern) return std::unexpected(pattern.error());
    const auto content = step.text_member("content");
    if (!content) return std::unexpected(content.error());
    return normalize::Replace{std::move(*pattern), std::string(*content)};
  }
  return std::unexpected(unknown_type(step, "normalizer", type).error());
}

}  // namespace

Result<Normalizer> read_normalizer(const JsonView& section) {
  Normalizer out;
  std::size_t steps = 0;
  const auto done =
      for_each_step(section, "normalizers", steps, [&](const JsonView& step, auto type) -> Status {
        auto made = read_normalizer_step(step, type);
        if (!made) return std::unexpected(made.error());
        out.add(std::move(*made));
        return {};
      });
  if (!done) return std::unexpected(done.error());
  return out;
}

namespace {

// ByteLevel's own expression, the one of GPT-2.
constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

Result<SplitBehavior> read_behavior(const JsonView& step, std::optional<SplitBehavior> otherwise) {
  constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> kNames = {{
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous},
  }};
  const auto member = step.member("behavior");
  if (!member && otherwise) return *otherwise;
  const auto name = step.text_member("behavior");
  if (!name) return std::unexpected(name.error());
  for (const auto& [known, behavior] : kNames) {
    if (*name == known) return behavior;
  }
  return step.unsupported(fmt::format("the behavior {} is not supported", quote(*name)));
}

Result<cut::Step> read_byte_level(const JsonView& step) {
  const auto prefix = step.boolean_member("add_prefix_space");
  if (!prefix) return std::unexpected(prefix.error());
  const auto use_regex = step.boolean_member("use_regex", true);
  if (!use_regex) return std::unexpected(use_regex.error());
  cut::ByteLevel out{*prefix, std::nullopt};
  if (*use_regex) {
    auto regex = Regex::create(kGpt2Regex);
    if (!regex) return std::unexpected(regex.error());
    out.regex = std::move(*regex);
  }
  return cut::Step(std::move(out));
}

Result<cut::Prepend> read_prepend_scheme(const JsonView& step) {
  cut::Prepend out = cut::Prepend::kAlways;
  if (step.member("prepend_scheme")) {
    const auto name = step.text_member("prepend_scheme");
    if (!name) return std::unexpected(name.error());
    if (*name == "first") {
      out = cut::Prepend::kFirst;
    } else if (*name == "never") {
      out = cut::Prepend::kNever;
    } else if (*name != "always") {
      return step.unsupported(fmt::format("the prepend_scheme {} is not supported", quote(*name)));
    }
  }
  const auto prefix = step.boolean_member("add_prefix_space", true);
  if (!prefix) return std::unexpected(prefix.error());
  if (*prefix) return out;
  if (step.member("prepend_scheme") && out != cut::Prepend::kNever) {
    return step.wrong("add_prefix_space is false, but prepend_scheme is not \"never\"");
  }
  return cut::Prepend::kNever;
}

Result<cut::Step> read_metaspace(const JsonView& step) {
  auto replacement = read_character(step, "replacement");
  if (!replacement) return std::unexpected(replacement.error());
  const auto prepend = read_prepend_scheme(step);
  if (!prepend) return std::unexpected(prepend.error());
  const auto split = step.boolean_member("split", true);
  if (!split) return std::unexpected(split.error());
  return cut::Metaspace{std::move(*replacement), *prepend, *split};
}

Result<cut::Step> read_cut(const JsonView& step, std::string_view type) {
  if (type == "ByteLevel") return read_byte_level(step);
  if (type == "Metaspace") return read_metaspace(step);
  if (type == "Digits") {
    const auto individual = step.boolean_member("individual_digits");
    if (!individual) return std::unexpected(individual.error());
    return cut::Digits{*individual};
  }
  if (type == "Punctuation") {
    const auto behavior = read_behavior(step, SplitBehavior::kIsolated);
    if (!behavior) return std::unexpected(behavior.error());
    return cut::Punctuation{*behavior};
  }
  if (type == "Split") {
    auto pattern = read_pattern(step);
    if (!pattern) return std::unexpected(pattern.error());
    const auto behavior = read_behavior(step, std::nullopt);
    if (!behavior) return std::unexpected(behavior.error());
    const auto invert = step.boolean_member("invert");
    if (!invert) return std::unexpected(invert.error());
    return cut::Split{std::move(*pattern), *behavior, *invert};
  }
  return std::unexpected(unknown_type(step, "pre_tokenizer", type).error());
}

}  // namespace

Result<PreTokenizer> read_pre_tokenizer(const JsonView& section) {
  PreTokenizer out;
  std::size_t steps = 0;
  const auto done = for_each_step(section, "pretokenizers", steps,
                                  [&](const JsonView& step, auto type) -> Status {
                                    if (out.byte_level())
                                      return step.unsupported("a step behind ByteLevel");
                                    auto made = read_cut(step, type);
                                    if (!made) return std::unexpected(made.error());
                                    out.add(std::move(*made));
                                    return {};
                                  });
  if (!done) return std::unexpected(done.error());
  return out;
}

namespace {

constexpr std::int64_t kStripMax = 1024;  // bounds what a stream holds back

Result<decode::Step> read_decoder_step(const JsonView& step, std::string_view type) {
  if (type == "ByteLevel") return decode::ByteLevel{};
  if (type == "ByteFallback") return decode::ByteFallback{};
  if (type == "Fuse") return decode::Fuse{};
  if (type == "Metaspace") {
    auto replacement = read_character(step, "replacement");
    if (!replacement) return std::unexpected(replacement.error());
    const auto prepend = read_prepend_scheme(step);
    if (!prepend) return std::unexpected(prepend.error());
    return decode::Metaspace{std::move(*replacement), *prepend != cut::Prepend::kNever};
  }
  if (type == "Strip") {
    auto character = read_character(step, "content");
    if (!character) return std::unexpected(character.error());
    const auto start = step.integer_member("start");
    if (!start) return std::unexpected(start.error());
    const auto stop = step.integer_member("stop");
    if (!stop) return std::unexpected(stop.error());
    if (*start < 0 || *stop < 0 || *start > kStripMax || *stop > kStripMax) {
      return step.unsupported("start and stop must be 0 to 1024");
    }
    return decode::Strip{std::move(*character), static_cast<std::uint32_t>(*start),
                         static_cast<std::uint32_t>(*stop)};
  }
  if (type == "Replace") {
    const auto pattern = read_pattern(step);
    if (!pattern) return std::unexpected(pattern.error());
    if (pattern->literal_text() == nullptr) {
      return step.unsupported("a Regex in a decoder (only a String can be followed in a stream)");
    }
    const auto content = step.text_member("content");
    if (!content) return std::unexpected(content.error());
    return decode::Replace{*pattern->literal_text(), std::string(*content)};
  }
  return std::unexpected(unknown_type(step, "decoder", type).error());
}

}  // namespace

Result<Decoder> read_decoder(const JsonView& section) {
  Decoder out;
  std::size_t steps = 0;
  const auto done =
      for_each_step(section, "decoders", steps, [&](const JsonView& step, auto type) -> Status {
        auto made = read_decoder_step(step, type);
        if (!made) return std::unexpected(made.error());
        const auto added = out.add(std::move(*made));
        if (!added) return step.unsupported(added.error().message);
        return {};
      });
  if (!done) return std::unexpected(done.error());
  return out;
}

namespace {

constexpr std::size_t kTemplateTokensMax = 1024;

Status read_special_ids(const JsonView& step, std::string_view name, const Vocabulary& vocabulary,
                        std::vector<TokenId>& out) {
  const auto table = step.member("special_tokens");
  const auto entry = table ? table->member(name) : std::nullopt;
  const auto ids = entry ? entry->member("ids") : std::nullopt;
  if (!ids) return step.wrong(fmt::format("special_tokens has no \"ids\" for {}", quote(name)));
  const auto items = ids->array();
  if (!items) return std::unexpected(items.error());
  std::size_t index = 0;
  for (const auto item : *items) {
    const auto id = ids->item(item, index++).integer();
    if (!id) return std::unexpected(id.error());
    if (*id < 0 || *id >= vocabulary.size()) {
      return ids->wrong(fmt::format("the id {} is not in the vocabulary", *id));
    }
    if (out.size() >= kTemplateTokensMax) return ids->unsupported("more than 1024 tokens");
    out.push_back(static_cast<TokenId>(*id));
  }
  return {};
}

// The template for one text: special tokens, the text, special tokens.
Result<Surroundings> read_template(const JsonView& step, const Vocabulary& vocabulary) {
  const auto single = step.member("single");
  if (!single) return step.wrong("the array \"single\" is missing");
  const auto items = single->array();
  if (!items) return std::unexpected(items.error());
  Surroundings out;
  bool text_seen = false;
  std::size_t index = 0;
  for (const auto item : *items) {
    const JsonView piece = single->item(item, index++);
    if (const auto sequence = piece.member("Sequence")) {
      const auto id = sequence->text_member("id");
      if (!id) return std::unexpected(id.error());
      if (*id != "A" || text_seen)
        return piece.unsupported("a template must have the text \"A\" once");
      text_seen = true;
      continue;
    }
    const auto special = piece.member("SpecialToken");
    if (!special) return piece.wrong("must be a \"Sequence\" or a \"SpecialToken\"");
    const auto name = special->text_member("id");
    if (!name) return std::unexpected(name.error());
    const auto read =
        read_special_ids(step, *name, vocabulary, text_seen ? out.behind : out.before);
    if (!read) return std::unexpected(read.error());
  }
  if (!text_seen) return single->unsupported("a template must have the text \"A\" once");
  return out;
}

}  // namespace

Result<Surroundings> read_post_processor(const JsonView& section, const Vocabulary& vocabulary) {
  Surroundings out;
  std::size_t steps = 0;
  int templates = 0;
  const auto done =
      for_each_step(section, "processors", steps, [&](const JsonView& step, auto type) -> Status {
        if (type == "ByteLevel") return {};  // moves offsets, which nobody asks for here
        if (type != "TemplateProcessing") return unknown_type(step, "post_processor", type);
        if (templates++ > 0) return step.unsupported("a second template");
        auto around = read_template(step, vocabulary);
        if (!around) return std::unexpected(around.error());
        out = std::move(*around);
        return {};
      });
  if (!done) return std::unexpected(done.error());
  return out;
}

}  // namespace pd::model::tokenizing
