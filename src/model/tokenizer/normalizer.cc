#include "model/tokenizer/normalizer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace pd::model::tokenizing {

Result<Pattern> Pattern::literal(std::string text) {
  if (text.empty()) return error(ErrorCode::kUnsupported, "an empty string as a pattern");
  return Pattern(std::move(text));
}

Result<Pattern> Pattern::regex(std::string_view oniguruma) {
  auto made = Regex::create(oniguruma);
  if (!made) return std::unexpected(made.error());
  return Pattern(std::move(*made));
}

Status Pattern::find_all(std::string_view text, RegexScratch& scratch,
                         const Regex::Found& found) const {
  if (const auto* regex = std::get_if<Regex>(&what_)) return regex->find_all(text, scratch, found);
  const std::string& literal = std::get<std::string>(what_);
  for (std::size_t at = text.find(literal); at != std::string_view::npos;
       at = text.find(literal, at + literal.size())) {
    found(at, at + literal.size());
  }
  return {};
}

namespace {
constexpr std::size_t kStep = 8;
static_assert(std::endian::native == std::endian::little);
}  // namespace

std::optional<std::string> with_byte_replaced(std::string_view text, char what,
                                              std::string_view content, std::size_t bytes_max) {
  const auto count = static_cast<std::size_t>(std::count(text.begin(), text.end(), what));
  const std::size_t size = text.size() + count * content.size() - count;
  if (size > bytes_max) return std::nullopt;
  std::string out(size + kStep, '\0');
  char* to = out.data();
  if (content.size() <= kStep) {
    // Where words end is what no processor guesses: both cases write and advance alike.
    std::uint64_t replacement = 0;
    std::memcpy(&replacement, content.data(), content.size());
    for (const char c : text) {
      const bool replaced = c == what;
      const std::uint64_t bytes = replaced ? replacement : static_cast<unsigned char>(c);
      std::memcpy(to, &bytes, kStep);
      to += replaced ? content.size() : 1;
    }
  } else {
    for (const char c : text) {
      const std::string_view bytes = c == what ? content : std::string_view(&c, 1);
      to = std::ranges::copy(bytes, to).out;
    }
  }
  out.resize(size);
  return out;
}

namespace {

// The compatibility forms grow a text 18-fold at most, a space to U+2581 3-fold; a file of steps
// that double each must not fill memory.
constexpr std::size_t kFactorMax = 64;
constexpr std::size_t kGrowthFree = 64 * 1024;

std::unexpected<Error> too_large() {
  return error(ErrorCode::kTooLarge, "the tokenizer's normalizer grows the text beyond measure");
}

struct Normalization {
  std::string& text;
  RegexScratch& scratch;
  bool& moved_start;
  std::size_t limit;  // of the result's bytes

  Status operator()(NormalForm form) const {
    text = normalized(text, form);
    return {};
  }
  Status operator()(const normalize::Prepend& step) const {
    if (!text.empty()) text.insert(0, step.text);
    return {};
  }
  Status operator()(const normalize::Replace& step) const {
    if (const auto* literal = step.pattern.literal_text(); literal && literal->size() == 1) {
      auto changed = with_byte_replaced(text, literal->front(), step.content, limit);
      if (!changed) return too_large();
      text = std::move(*changed);
      return {};
    }
    std::string out;
    std::size_t copied = 0;
    const auto replaced =
        step.pattern.find_all(text, scratch, [&](std::size_t begin, std::size_t end) {
          if (out.size() <= limit) {
            out.append(text, copied, begin - copied);
            out.append(step.content);
          }
          copied = end;
        });
    if (!replaced) return replaced;
    out.append(text, copied);
    text = std::move(out);
    return {};
  }
  Status operator()(const normalize::Strip& step) const {
    std::size_t end = text.size();
    while (step.right && end > 0) {
      std::size_t before = end;
      if (!is_white_space(previous_code_point(text, before))) break;
      end = before;
    }
    std::size_t begin = 0;
    while (step.left && begin < end) {
      std::size_t behind = begin;
      if (!is_white_space(next_code_point(text, behind))) break;
      begin = behind;
    }
    moved_start = moved_start || begin > 0;
    text = text.substr(begin, end - begin);
    return {};
  }
  Status operator()(normalize::Lowercase) const {
    text = lower_cased(text);
    return {};
  }
  Status operator()(normalize::StripAccents) const {
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t begin = at;
      if (!is_mark(next_code_point(text, at))) out.append(text, begin, at - begin);
    }
    text = std::move(out);
    return {};
  }
};

}  // namespace

Result<std::string> Normalizer::apply(std::string text, RegexScratch& scratch,
                                      bool& moved_start) const {
  const std::size_t limit = text.size() * kFactorMax + kGrowthFree;
  for (const auto& step : steps_) {
    const auto applied = std::visit(Normalization{text, scratch, moved_start, limit}, step);
    if (!applied) return std::unexpected(applied.error());
    if (text.size() > limit) return too_large();
  }
  return text;
}

}  // namespace pd::model::tokenizing
