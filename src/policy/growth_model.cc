#include "policy/growth_model.h"

#include <algorithm>
#include <numeric>

namespace pd::policy {
namespace {

// Lengths come from outside: never negative, and a difference cannot overflow.
std::int64_t left(Tokens output, Tokens output_max) {
  return std::max<std::int64_t>(output_max.value() - std::max<std::int64_t>(output.value(), 0), 0);
}

}  // namespace

void GrowthModel::on_finished(Tokens output) {
  const std::int64_t length = output.value();
  if (recent_.size() < window_) {
    recent_.push_back(length);
  } else {
    sorted_.erase(std::lower_bound(sorted_.begin(), sorted_.end(), recent_[oldest_]));
    recent_[oldest_] = length;
    oldest_ = (oldest_ + 1) % recent_.size();
  }
  sorted_.insert(std::upper_bound(sorted_.begin(), sorted_.end(), length), length);
}

double GrowthModel::goes_beyond(Tokens output, Tokens further, Tokens output_max) const {
  if (further.value() >= left(output, output_max)) return 0.0;
  const auto longer = std::upper_bound(sorted_.begin(), sorted_.end(), output.value());
  if (longer == sorted_.end()) return further.value() < guess(output.value()) ? 1.0 : 0.0;
  const auto beyond = std::upper_bound(longer, sorted_.end(), (output + further).value());
  return static_cast<double>(sorted_.end() - beyond) / static_cast<double>(sorted_.end() - longer);
}

Tokens GrowthModel::remaining(Tokens output, Tokens output_max) const {
  const auto longer = std::upper_bound(sorted_.begin(), sorted_.end(), output.value());
  std::int64_t expected = guess(output.value());
  if (longer != sorted_.end()) {
    const std::int64_t sum = std::accumulate(longer, sorted_.end(), std::int64_t{0});
    expected = sum / (sorted_.end() - longer) - output.value();
  }
  return Tokens(std::min(expected, left(output, output_max)));
}

Tokens GrowthModel::remaining_max(Tokens output, Tokens output_max) const {
  const bool outgrown = sorted_.empty() || sorted_.back() <= output.value();
  const std::int64_t longest = outgrown ? guess(output.value()) : sorted_.back() - output.value();
  return Tokens(std::min(longest, left(output, output_max)));
}

// Further tokens where no remembered request tells.
std::int64_t GrowthModel::guess(std::int64_t output) const {
  const bool first = sorted_.empty() && output < guess_.value();
  return first ? guess_.value() - output : output;
}

}  // namespace pd::policy
