#include "base/printable.h"

#include <fmt/format.h>

#include <iterator>

#include "base/text.h"

namespace pd {

std::string printable(std::string_view text, std::string_view kept) {
  std::string out;
  const auto append_byte = [&out](char c) {
    fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(c));
  };
  while (!text.empty()) {
    const std::string_view valid = text.substr(0, valid_utf8_prefix(text));
    for (std::size_t i = 0; i < valid.size(); ++i) {
      const char c = valid[i];
      const bool control = (c >= 0 && c < 0x20) || c == 0x7F;
      if (control && kept.find(c) == kept.npos) {
        if (c == '\n')
          out += "\\n";
        else
          append_byte(c);
      } else if (c == '\xC2' && static_cast<unsigned char>(valid[i + 1]) < 0xA0) {
        fmt::format_to(std::back_inserter(out), "\\u00{:02x}",
                       static_cast<unsigned char>(valid[++i]));
      } else {
        out += c;
      }
    }
    text.remove_prefix(valid.size());
    if (text.empty()) break;
    append_byte(text.front());
    text.remove_prefix(1);
  }
  return out;
}

}  // namespace pd
