// A look at a TOML text before its parser sees it: toml++ 3.3 takes control characters at the start
// of a key, and letters such as é where it looks for white space, for what cannot be, and undefined
// behaviour follows. Found by config_toml_fuzz.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace pd::protocol {

struct TomlProblem {
  std::size_t line = 1;
  std::string message;
};

// What TOML allows nowhere: control characters, what is not UTF-8. nullopt: none.
std::optional<TomlProblem> find_forbidden(std::string_view text);

// The text with `?` for every byte that is not ASCII. It is valid TOML exactly if the text is:
// other characters may stand only where `?` may, in strings and comments, and mean themselves
// there.
std::string ascii_form(std::string_view text);

}  // namespace pd::protocol
