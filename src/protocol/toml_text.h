// A look at a TOML text before its parser sees it: toml++ 3.3 takes control characters at the start
// of a key for a broken invariant, and some letters outside strings for impossible (its
// is_unicode_whitespace). Found by config_toml_fuzz.
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

// A character that TOML allows nowhere, or not where it stands: control characters, what is not
// UTF-8, anything but ASCII outside strings and comments. nullopt: none.
std::optional<TomlProblem> find_misplaced(std::string_view text);

}  // namespace pd::protocol
