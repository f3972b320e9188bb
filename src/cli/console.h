// Words for a person at a terminal. One that is gone is no error: nobody reads them any more.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string_view>
#include <utility>

namespace pd::cli {

// Written and flushed at once; a file that takes nothing is left alone.
void put(std::FILE* file, std::string_view text);

// To standard output, and to standard error.
template <typename... Args>
void tell(fmt::format_string<Args...> format, Args&&... args) {
  put(stdout, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void note(fmt::format_string<Args...> format, Args&&... args) {
  put(stderr, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace pd::cli
