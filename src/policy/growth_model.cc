#include "policy/growth_model.h"

#include <algorithm>
#include <numeric>

namespace pd::policy {

void GrowthModel::on_finished(Tokens output) {
  const std::int64_t length = output.value();
  if (recent_.size() < options_.window) {
    recent_.push_back(length);
  } else {
    sorted_.erase(std::lower_bound(sorted_.begin(), sorted_.end(), recent_[oldest_]));
    recent_[oldest_] = length;
    oldest_ = (oldest_ + 1) % recent_.size();
  }
  sorted_.insert(std::upper_bound(sorted_.begin(), sorted_.end(), length), length);
}

Tokens GrowthModel::remaining(Tokens output, Tokens output_max) const {
  const std::int64_t limit = std::max<std::int64_t>(output_max.value() - output.value(), 0);
  const auto longer = std::upper_bound(sorted_.begin(), sorted_.end(), output.value());
  double expected = 0.0;
  if (longer != sorted_.end()) {
    const double sum = static_cast<double>(std::accumulate(longer, sorted_.end(), std::int64_t{0}));
    expected =
        sum / static_cast<double>(sorted_.end() - longer) - static_cast<double>(output.value());
  } else if (sorted_.empty() && output < options_.first_guess) {
    expected = static_cast<double>((options_.first_guess - output).value());
  } else {
    expected = static_cast<double>(output.value());
  }
  const double wanted = expected * options_.margin;
  if (wanted >= static_cast<double>(limit)) return Tokens(limit);
  return Tokens(static_cast<std::int64_t>(wanted));
}

}  // namespace pd::policy
