// What work costs, learned from what it took. Pure.
#pragma once

#include <cstdint>

#include "base/time.h"

namespace pd::policy {

// Time as fixed + per unit, fitted to what was measured; the newest count most. Until three
// different amounts were measured: the first guess.
class LinearCost {
 public:
  LinearCost(Duration fixed, Duration per_unit)
      : fixed_(to_seconds(fixed)), per_unit_(to_seconds(per_unit)) {}
  void on_measured(std::int64_t units, Duration took);
  double seconds(std::int64_t units) const;  // >= 0
  // What few exceed: three times the mean deviation above what is expected.
  Duration at_most(std::int64_t units) const;

 private:
  void fit();
  double fixed_, per_unit_;
  double n_ = 0, x_ = 0, y_ = 0, xx_ = 0, xy_ = 0;  // decayed sums
  double deviation_ = 0;                            // moving average of its size
};

}  // namespace pd::policy
