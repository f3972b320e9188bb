#include "protocol/toml_text.h"

#include <fmt/format.h>

#include "base/text.h"

namespace pd::protocol {

std::optional<TomlProblem> find_forbidden(std::string_view text) {
  if (!is_valid_utf8(text)) return TomlProblem{1, "it is not UTF-8"};
  std::size_t line = 1;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t' && c != '\n' && c != '\r') || byte == 0x7F)
      return TomlProblem{line, fmt::format("control character 0x{:02x}", byte)};
    line += c == '\n';
  }
  return std::nullopt;
}

std::string ascii_form(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  }
  return out;
}

}  // namespace pd::protocol
