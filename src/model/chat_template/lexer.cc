#include "model/chat_template/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "base/text.h"
#include "model/chat_template/value.h"

namespace pd::model::jinja {
namespace {

using Kind = Token::Kind;

bool is_name_start(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool is_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) text();
    out_.push_back({Kind::kEnd, "", line_});
    return std::move(out_);
  }

 private:
  [[noreturn]] void wrong(const std::string& what) const {
    fail(fmt::format("template line {}: {}", line_, what));
  }
  bool ahead(std::string_view text) const {
    return std::string_view(source_).substr(at_).starts_with(text);
  }
  void advance(std::size_t n) {
    line_ +=
        static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                    source_.begin() + static_cast<std::ptrdiff_t>(at_ + n), '\n'));
    at_ += n;
  }

  // Literal text up to the next tag, then the tag.
  void text() {
    std::size_t tag = at_;
    while (tag < source_.size()) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos) tag = source_.size();
      if (tag + 1 < source_.size() &&
          (source_[tag + 1] == '{' || source_[tag + 1] == '%' || source_[tag + 1] == '#'))
        break;
      if (tag < source_.size()) ++tag;
    }
    std::string literal = source_.substr(at_, tag - at_);
    const int line = line_;
    advance(tag - at_);
    if (at_ < source_.size()) strip_before_tag(literal);
    if (!literal.empty()) out_.push_back({Kind::kText, std::move(literal), line});
    if (at_ < source_.size()) this->tag();
  }

  void strip_before_tag(std::string& literal) const {
    const char control = at_ + 2 < source_.size() ? source_[at_ + 2] : '\0';
    if (control == '-') {
      literal = trim(literal, "", false, true);
    } else if (source_[at_ + 1] != '{' && control != '+') {
      // lstrip_blocks: only white space between the line's start and the tag.
      const std::size_t start = literal.rfind('\n') + 1;  // npos + 1 is 0
      const bool at_line_start =
          start > 0 || at_ == literal.size() || source_[at_ - literal.size() - 1] == '\n';
      if (at_line_start && literal.find_first_not_of(" \t", start) == std::string::npos)
        literal.erase(start);
    }
  }

  void tag() {
    const char kind = source_[at_ + 1];
    advance(2);
    if (kind == '#') return comment();
    if (ahead("-") || ahead("+")) advance(1);
    const std::string_view close = kind == '{' ? "}}" : "%}";
    if (kind == '%' && raw_block()) return;
    out_.push_back({kind == '{' ? Kind::kOpenOutput : Kind::kOpenBlock, "", line_});
    while (true) {
      while (at_ < source_.size() && std::isspace(static_cast<unsigned char>(source_[at_])) != 0)
        advance(1);
      if (at_ >= source_.size()) wrong("a tag is not closed");
      if (depth_ == 0 &&
          (ahead(close) || ((ahead("-") || ahead("+")) &&
                            std::string_view(source_).substr(at_ + 1).starts_with(close))))
        break;
      expression_token();
    }
    out_.push_back({kind == '{' ? Kind::kCloseOutput : Kind::kCloseBlock, "", line_});
    close_tag(kind == '%');
  }

  // Behind a tag: "-" strips white space, and a block's first newline goes (trim_blocks) unless "+"
  // keeps it.
  void close_tag(bool block) {
    const bool strip = ahead("-"), keep = ahead("+");
    advance((strip || keep) ? 3 : 2);
    if (strip) {
      while (at_ < source_.size() && std::isspace(static_cast<unsigned char>(source_[at_])) != 0)
        advance(1);
    } else if (block && !keep && ahead("\n")) {
      advance(1);
    }
  }

  void comment() {
    const std::size_t end = source_.find("#}", at_);
    if (end == std::string::npos) wrong("a comment is not closed");
    const bool controlled = end > at_ && (source_[end - 1] == '-' || source_[end - 1] == '+');
    advance(end - at_ - (controlled ? 1 : 0));
    close_tag(true);
  }

  bool raw_block() {
    const std::size_t start = at_;
    const int line = line_;
    std::size_t p = at_;
    while (p < source_.size() && std::isspace(static_cast<unsigned char>(source_[p])) != 0) ++p;
    if (source_.compare(p, 3, "raw") != 0 || (p + 3 < source_.size() && is_name(source_[p + 3])))
      return false;
    p = source_.find("%}", p);
    if (p == std::string::npos) wrong("a raw block is not closed");
    advance(p - at_ - (source_[p - 1] == '-' || source_[p - 1] == '+' ? 1 : 0));
    close_tag(true);
    for (std::size_t end = source_.find("{%", at_); end != std::string::npos;
         end = source_.find("{%", end + 2)) {
      std::size_t name = end + 2;
      if (name < source_.size() && (source_[name] == '-' || source_[name] == '+')) ++name;
      while (name < source_.size() && std::isspace(static_cast<unsigned char>(source_[name])) != 0)
        ++name;
      if (source_.compare(name, 6, "endraw") != 0) continue;
      std::string literal = source_.substr(at_, end - at_);
      advance(end - at_);
      strip_before_tag(literal);
      if (!literal.empty()) out_.push_back({Kind::kText, std::move(literal), line});
      const std::size_t close = source_.find("%}", at_);
      if (close == std::string::npos) break;
      advance(close - at_ - (source_[close - 1] == '-' || source_[close - 1] == '+' ? 1 : 0));
      close_tag(true);
      return true;
    }
    at_ = start;
    line_ = line;
    wrong("a raw block is not closed");
  }

  void expression_token() {
    const char c = source_[at_];
    if (c == '"' || c == '\'') return string(c);
    if (is_digit(c)) return number();
    if (is_name_start(c)) {
      std::size_t end = at_;
      while (end < source_.size() && is_name(source_[end])) ++end;
      return push(Kind::kName, end - at_);
    }
    for (const std::string_view op : {"==", "!=", "<=", ">=", "//", "**"}) {
      if (ahead(op)) return push(Kind::kOperator, 2);
    }
    if (std::string_view("+-*/%~<>=()[]{}.,:|").find(c) == std::string_view::npos)
      wrong(fmt::format("unexpected character '{}'", c));
    if (c == '(' || c == '[' || c == '{') ++depth_;
    if (c == ')' || c == ']' || c == '}') {
      if (depth_ == 0) wrong(fmt::format("unexpected '{}'", c));
      --depth_;
    }
    push(Kind::kOperator, 1);
  }

  void push(Kind kind, std::size_t n) {
    out_.push_back({kind, source_.substr(at_, n), line_});
    advance(n);
  }

  void number() {
    std::size_t end = at_;
    const auto digits = [&] {
      while (end < source_.size() && (is_digit(source_[end]) || source_[end] == '_')) ++end;
    };
    digits();
    bool real = false;
    if (end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1])) {
      real = true;
      ++end;
      digits();
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      std::size_t exponent = end + 1;
      if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-'))
        ++exponent;
      if (exponent < source_.size() && is_digit(source_[exponent])) {
        real = true;
        end = exponent;
        digits();
      }
    }
    push(real ? Kind::kFloat : Kind::kInteger, end - at_);
    std::erase(out_.back().text, '_');
  }

  void string(char quote) {
    const int line = line_;
    std::string value;
    std::size_t p = at_ + 1;
    while (true) {
      if (p >= source_.size()) wrong("a string is not closed");
      const char c = source_[p];
      if (c == quote) break;
      if (c != '\\') {
        value += c;
        ++p;
      } else {
        p = escape(p + 1, value);
      }
    }
    advance(p + 1 - at_);
    out_.push_back({Kind::kString, std::move(value), line});
  }

  // As Python reads it; an unknown escape keeps its backslash.
  std::size_t escape(std::size_t p, std::string& value) {
    if (p >= source_.size()) wrong("a string is not closed");
    const char c = source_[p];
    const std::string_view plain = "nrtbfav0\\'\"", meaning("\n\r\t\b\f\a\v\0\\'\"", 11);
    if (const auto i = plain.find(c); i != std::string_view::npos) {
      value += meaning[i];
      return p + 1;
    }
    if (c == '\n') return p + 1;
    const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits > 0) {
      const auto code = p + 1 + digits <= source_.size()
                            ? from_hex(std::string_view(source_).substr(p + 1, digits))
                            : std::nullopt;
      if (!code) wrong("a bad escape in a string");
      append_utf8(value, static_cast<char32_t>(*code));
      return p + 1 + digits;
    }
    value += '\\';
    value += c;
    return p + 1;
  }

  std::string source_;
  std::size_t at_ = 0;
  int line_ = 1;
  int depth_ = 0;  // of brackets: "}}" may close two dictionaries
  std::vector<Token> out_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  std::string normal;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r')
      normal += source[i];
    else if (i + 1 >= source.size() || source[i + 1] != '\n')
      normal += '\n';
  }
  if (normal.ends_with('\n')) normal.pop_back();  // keep_trailing_newline is off
  return Lexer(std::move(normal)).run();
}

}  // namespace pd::model::jinja
