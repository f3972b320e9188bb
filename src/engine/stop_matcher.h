// Finds stop strings in a text that comes byte by byte, and knows how much of its end could still
// become one. What it answers depends on the bytes only, not on how they were cut into pieces.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace pd::engine {

class StopMatcher {
 public:
  // Empty strings are ignored.
  explicit StopMatcher(const std::vector<std::string>& stops);

  // Length of the longest stop string that ends with this byte; 0: none does. Linear in the number
  // of stop strings, amortised.
  std::size_t feed(char byte);

  // Length of the longest end of the text that begins a stop string without completing it.
  std::size_t open() const;

 private:
  // Knuth, Morris and Pratt 1977: failure[n] is the longest proper border of the first n bytes.
  struct Pattern {
    std::string text;
    std::vector<std::size_t> failure;
    std::size_t matched = 0;
  };
  std::vector<Pattern> patterns_;
};

}  // namespace pd::engine
