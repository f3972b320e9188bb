// Changes to the text before it is cut: normal forms, replacements, a prepended mark.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "model/tokenizer/regex.h"
#include "model/tokenizer/unicode.h"

namespace pd::model::tokenizing {

// A literal or an expression; what Replace and Split look for.
class Pattern {
 public:
  static Result<Pattern> literal(std::string text);  // not empty
  static Result<Pattern> regex(std::string_view oniguruma);

  Status find_all(std::string_view text, RegexScratch& scratch, const Regex::Found& found) const;
  const std::string* literal_text() const { return std::get_if<std::string>(&what_); }

 private:
  explicit Pattern(std::variant<std::string, Regex> what) : what_(std::move(what)) {}
  std::variant<std::string, Regex> what_;
};

// `text` with `content` for each `what`; none: that would have more than `bytes_max` bytes. One
// allocation and no call for each, as a space in every word of a prompt becomes U+2581.
std::optional<std::string> with_byte_replaced(std::string_view text, char what,
                                              std::string_view content,
                                              std::size_t bytes_max = SIZE_MAX);

namespace normalize {
struct Prepend {
  std::string text;  // before any text that is not empty
};
struct Replace {
  Pattern pattern;
  std::string content;
};
struct Strip {
  bool left = true;
  bool right = true;
};
struct Lowercase {};
struct StripAccents {};
using Step = std::variant<NormalForm, Prepend, Replace, Strip, Lowercase, StripAccents>;
}  // namespace normalize

class Normalizer {
 public:
  void add(normalize::Step step) { steps_.push_back(std::move(step)); }
  bool empty() const { return steps_.empty(); }

  // `moved_start` becomes true when text at the beginning was taken away. kTooLarge: the result has
  // more than 64 times the bytes (and 64 KiB).
  Result<std::string> apply(std::string text, RegexScratch& scratch, bool& moved_start) const;

 private:
  std::vector<normalize::Step> steps_;
};

}  // namespace pd::model::tokenizing
