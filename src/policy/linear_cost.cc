#include "policy/linear_cost.h"

#include <algorithm>
#include <cmath>

namespace pd::policy {

// Half of the weight lies on the last 35: a change of load shows within so many requests.
constexpr double kKept = 0.98;
constexpr double kSurprise = 3.0;
constexpr double kDeviationShare = 1.0 / 16;

void LinearCost::on_measured(std::int64_t units, Duration took) {
  const auto x = static_cast<double>(std::clamp<std::int64_t>(units, 0, 1 << 24));
  // The first of its kind makes connections and touches memory: no more than so many times what is
  // expected, which a real change still reaches soon.
  const double y = std::clamp(to_seconds(took), 0.0,
                              std::min(3600.0, kSurprise * std::max(seconds(units), 1e-3)));
  deviation_ += (std::abs(y - seconds(units)) - deviation_) * kDeviationShare;
  n_ = n_ * kKept + 1;
  x_ = x_ * kKept + x;
  y_ = y_ * kKept + y;
  xx_ = xx_ * kKept + x * x;
  xy_ = xy_ * kKept + x * y;
  if (n_ > 2.5) fit();
}

void LinearCost::fit() {
  const double spread = xx_ - x_ * x_ / n_;
  // One length only says nothing of the slope.
  if (spread > 1.0) per_unit_ = std::max(0.0, (xy_ - x_ * y_ / n_) / spread);
  fixed_ = std::max(0.0, (y_ - per_unit_ * x_) / n_);
}

double LinearCost::seconds(std::int64_t units) const {
  return fixed_ + per_unit_ * static_cast<double>(std::clamp<std::int64_t>(units, 0, 1 << 24));
}

Duration LinearCost::at_most(std::int64_t units) const {
  const double bounded = std::min(seconds(units) + 3 * deviation_, 86400.0);
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(bounded));
}

}  // namespace pd::policy
