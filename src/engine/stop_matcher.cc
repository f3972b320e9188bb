#include "engine/stop_matcher.h"

#include <algorithm>

namespace pd::engine {

StopMatcher::StopMatcher(const std::vector<std::string>& stops) {
  for (const std::string& stop : stops) {
    if (stop.empty()) continue;
    std::vector<std::size_t> failure(stop.size() + 1, 0);
    std::size_t border = 0;
    for (std::size_t i = 1; i < stop.size(); ++i) {
      while (border > 0 && stop[i] != stop[border]) border = failure[border];
      if (stop[i] == stop[border]) ++border;
      failure[i + 1] = border;
    }
    patterns_.push_back({stop, std::move(failure), 0});
  }
}

std::size_t StopMatcher::feed(char byte) {
  std::size_t longest = 0;
  for (Pattern& pattern : patterns_) {
    std::size_t& matched = pattern.matched;
    while (matched > 0 && pattern.text[matched] != byte) matched = pattern.failure[matched];
    if (pattern.text[matched] == byte) ++matched;
    if (matched == pattern.text.size()) {
      longest = std::max(longest, matched);
      matched = pattern.failure[matched];  // goes on, in case the caller ignores the match
    }
  }
  return longest;
}

std::size_t StopMatcher::open() const {
  std::size_t longest = 0;
  for (const Pattern& pattern : patterns_) longest = std::max(longest, pattern.matched);
  return longest;
}

}  // namespace pd::engine
