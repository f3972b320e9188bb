// Oniguruma (Ruby syntax) to PCRE2: the differences that matter for tokenizer files are the classes
// \s and \w (Unicode properties there, narrower or wider sets here), \h, \v and \u, property names
// (script there, script extensions here), nested character classes, and options in the middle of a
// group.
#include <fmt/format.h>

#include <array>
#include <string>

#include "model/tokenizer/regex.h"

#include "model/json_text.h"

namespace pd::model::tokenizing {
namespace {

constexpr std::string_view kSpace =
    "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"
    "\\x{3000}";
constexpr std::string_view kNotSpace =
    "\\x00-\\x08\\x0e-\\x1f\\x21-\\x84\\x86-\\x9f\\xa1-\\x{167f}\\x{1681}-\\x{1fff}"
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}"
    "\\x{3001}-\\x{10ffff}";
constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
constexpr bool is_hex(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

class Translation {
 public:
  explicit Translation(std::string_view in) : in_(in) {}

  Result<std::string> run() {
    while (ok_ && at_ < in_.size()) step();
    if (!ok_) {
      return error(ErrorCode::kUnsupported,
                   fmt::format("the regular expression {} uses {}, which pdserve does not "
                               "translate",
                               quote(in_), refused_));
    }
    return std::move(out_);
  }

 private:
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0';
  }
  bool next_is(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  void copy(std::size_t count) {
    out_.append(in_.substr(at_, count));
    at_ += count;
  }
  void refuse(std::string what) {
    if (ok_) refused_ = std::move(what);
    ok_ = false;
  }

  void step() {
    switch (peek()) {
      case '\\':
        return escape(false);
      case '[':
        return character_class();
      case '(':
        return group();
      case '{':
        return braces();
      default:
        copy(1);
    }
  }

  // {n}, {n,}, {,m}, {n,m}; anything else in braces is a literal to one engine or the other.
  void braces() {
    std::size_t end = 1;
    while (is_digit(peek(end))) ++end;
    const bool has_low = end > 1;
    bool has_high = has_low;
    if (peek(end) == ',') {
      const std::size_t comma = end++;
      while (is_digit(peek(end))) ++end;
      has_high = has_low || end > comma + 1;
    }
    if (peek(end) != '}' || !has_high) return refuse("a bare '{' (write '\\{')");
    if (peek(end + 1) == '+') return refuse("'+' behind a counted repetition");
    if (!has_low) {
      out_.append("{0");
      ++at_;
      copy(end);
    } else {
      copy(end + 1);
    }
  }

  void group() {
    if (peek(1) == '*') return refuse("a verb '(*'");
    if (peek(1) != '?') return copy(1);
    for (const std::string_view opening : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (next_is(opening)) return copy(opening.size());
    }
    if (next_is("(?i:") || next_is("(?-i:")) return copy(in_.find(':', at_) + 1 - at_);
    // Elsewhere Oniguruma lets an option group span the alternatives behind it, PCRE2 does not.
    if (next_is("(?i)") && at_ == 0) return copy(4);
    refuse(fmt::format("the group {}", quote(in_.substr(at_, 4))));
  }

  void character_class() {
    copy(1);
    if (peek() == '^') copy(1);
    if (peek() == ']') return refuse("']' as the first of a character class");
    while (ok_ && at_ < in_.size() && peek() != ']') {
      if (peek() == '[') return refuse("a character class inside a character class");
      if (next_is("&&")) return refuse("'&&' in a character class");
      if (peek() == '\\') {
        escape(true);
      } else {
        copy(1);
      }
    }
    if (at_ >= in_.size()) return refuse("a character class without its end");
    copy(1);
  }

  void replace(std::size_t count, std::string_view text) {
    at_ += count;
    out_.append(text);
  }
  void replace_set(bool in_class, std::string_view inside) {
    replace(2, in_class ? std::string(inside) : fmt::format("[{}]", inside));
  }

  void escape(bool in_class) {
    const char c = peek(1);
    switch (c) {
      case 's':
        return replace_set(in_class, kSpace);
      case 'S':
        return replace_set(in_class, kNotSpace);
      case 'w':
        return replace_set(in_class, kWord);
      case 'W':
        if (in_class) return refuse("'\\W' in a character class");
        return replace(2, fmt::format("[^{}]", kWord));
      case 'd':
        return replace(2, "\\p{Nd}");
      case 'D':
        return replace(2, "\\P{Nd}");
      case 'v':
        return replace(2, "\\x0b");
      case 'r':
      case 'n':
      case 't':
      case 'f':
      case 'a':
      case 'e':
        return copy(2);
      case 'A':
      case 'z':
      case 'Z':
        if (in_class) break;
        return copy(2);
      case 'p':
      case 'P':
        return property();
      case 'x':
        return hexadecimal();
      case 'u':
        return code_point();
      default:
        break;
    }
    if (c == '\0' || is_digit(c) || is_letter(c)) return refuse(fmt::format("'\\{}'", c));
    if (static_cast<unsigned char>(c) >= 0x80) return replace(1, "");  // the character itself
    copy(2);
  }

  void property() {
    const std::size_t close = in_.find('}', at_);
    if (peek(2) != '{' || close == std::string_view::npos) return refuse("'\\p' without braces");
    std::string_view name = in_.substr(at_ + 3, close - at_ - 3);
    const bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    for (const char c : name) {
      if (!is_letter(c) && c != '_') return refuse("a property name with other than letters");
    }
    constexpr std::array<std::string_view, 4> kBinary = {"Alphabetic", "White_Space", "Uppercase",
                                                         "Lowercase"};
    bool script = name.size() > 2;
    for (const std::string_view binary : kBinary) script = script && name != binary;
    const bool upper = (peek(1) == 'P') != negated;
    out_.append(fmt::format("\\{}{{{}{}}}", upper ? 'P' : 'p', script ? "sc:" : "", name));
    at_ = close + 1;
  }

  void hexadecimal() {
    std::size_t end = 2;
    if (peek(2) == '{') {
      for (end = 3; is_hex(peek(end));) ++end;
      if (peek(end) != '}' || end == 3) return refuse("'\\x{' without digits");
      return copy(end + 1);
    }
    while (end < 4 && is_hex(peek(end))) ++end;
    if (end == 2) return refuse("'\\x' without digits");
    // Above 7F this is a raw byte there and a code point here.
    if (end == 4 && peek(2) >= '8') return refuse("'\\x' of a byte above 7F");
    copy(end);
  }

  void code_point() {
    for (std::size_t i = 2; i < 6; ++i) {
      if (!is_hex(peek(i))) return refuse("'\\u' without four digits");
    }
    out_.append(fmt::format("\\x{{{}}}", in_.substr(at_ + 2, 4)));
    at_ += 6;
  }

  std::string_view in_;
  std::size_t at_ = 0;
  std::string out_;
  bool ok_ = true;
  std::string refused_;
};

}  // namespace

Result<std::string> pcre2_pattern(std::string_view oniguruma) {
  return Translation(oniguruma).run();
}

}  // namespace pd::model::tokenizing
