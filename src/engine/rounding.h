// Whole numbers of tiles, chunks and alignments.
#pragma once

#include <cstdint>

namespace pd::engine {

// Of what is not negative; `by` and `to` are positive.
constexpr std::int64_t ceil_div(std::int64_t value, std::int64_t by) {
  return (value + by - 1) / by;
}
constexpr std::int64_t round_up(std::int64_t value, std::int64_t to) {
  return ceil_div(value, to) * to;
}

}  // namespace pd::engine
