// What others have written, for a terminal, which would obey it.
#pragma once

#include <string>
#include <string_view>

namespace pd {

// Control characters (C0, DEL, C1) as escapes (\x1b, \u009b), and what is no UTF-8 byte by byte.
// `kept`: those that stay as they are.
std::string printable(std::string_view text, std::string_view kept = "");

}  // namespace pd
