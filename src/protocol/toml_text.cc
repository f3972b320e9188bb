#include "protocol/toml_text.h"

#include <fmt/format.h>

#include "base/text.h"

namespace pd::protocol {
namespace {

// Where the text stands, from its beginning.
class Place {
 public:
  bool in_text() const { return comment_ || !quote_.empty(); }

  // Moves over what starts at `rest`; returns its length, at least 1.
  std::size_t pass(std::string_view rest) {
    const char c = rest[0];
    if (comment_) {
      comment_ = c != '\n';
      return 1;
    }
    if (!quote_.empty()) return pass_in_string(rest);
    if (c == '#') comment_ = true;
    if (c != '"' && c != '\'') return 1;
    const std::string three(3, c);
    quote_ = rest.starts_with(three) ? three : std::string(1, c);
    return quote_.size();
  }

 private:
  std::size_t pass_in_string(std::string_view rest) {
    if (quote_[0] == '"' && rest[0] == '\\' && rest.size() > 1) return 2;
    if (rest.starts_with(quote_)) {
      const std::size_t length = quote_.size();
      quote_.clear();
      return length;
    }
    if (rest[0] == '\n' && quote_.size() == 1) quote_.clear();  // the parser says what is missing
    return 1;
  }

  bool comment_ = false;
  std::string quote_;  // what ends the string
};

}  // namespace

std::optional<TomlProblem> find_misplaced(std::string_view text) {
  std::size_t line = 1;
  if (!is_valid_utf8(text)) return TomlProblem{line, "it is not UTF-8"};
  Place place;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = place.pass(text.substr(at));
    for (const char c : text.substr(at, length)) {
      const auto byte = static_cast<unsigned char>(c);
      if ((byte < 0x20 && c != '\t' && c != '\n' && c != '\r') || byte == 0x7F)
        return TomlProblem{line, fmt::format("control character 0x{:02x}", byte)};
      if (byte >= 0x80 && !place.in_text())
        return TomlProblem{line, "only strings and comments may hold other characters than ASCII"};
      line += c == '\n';
    }
    at += length;
  }
  return std::nullopt;
}

}  // namespace pd::protocol
