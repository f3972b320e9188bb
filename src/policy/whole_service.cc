#include "policy/whole_service.h"

#include <algorithm>

namespace pd::policy {

// Half of the weight lies on the last 35: a change of load shows within so many requests.
constexpr double kKept = 0.98;
constexpr double kSurprise = 3.0;
// A handoff uses a link and a second instance: not for what may be an error of measurement.
constexpr double kWorthAHandoff = 1.1;
// What is not taken is not measured: an estimate from a bad moment, as its first, would stay. Of
// decisions between costs closer than the factor, one in so many goes the other way.
constexpr double kClose = 4.0;
constexpr std::uint64_t kTryEvery = 16;

void LinearCost::on_measured(std::int64_t units, Duration took) {
  const auto x = static_cast<double>(std::clamp<std::int64_t>(units, 0, 1 << 24));
  // The first of its kind makes connections and touches memory: no more than so many times what is
  // expected, which a real change still reaches soon.
  const double y = std::clamp(to_seconds(took), 0.0,
                              std::min(3600.0, kSurprise * std::max(seconds(units), 1e-3)));
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

void WholeService::on_prefilled(Tokens computed, Duration took) {
  prefill_.on_measured(computed.value(), took);
}

void WholeService::on_joined(bool whole, Tokens kv, Duration took) {
  (whole ? own_ : handoff_).on_measured(kv.value(), took);
}

bool WholeService::prefers_whole(Tokens prompt, const WholeSide& apart, const WholeSide& whole) {
  switch (options_.mode) {
    case WholeMode::kOff:
      return false;
    case WholeMode::kThreshold:
      return whole.uncached <= options_.threshold;
    case WholeMode::kAuto:
      break;
  }
  const double here = prefill_.seconds(whole.uncached.value());
  const double cost_apart =
      prefill_.seconds((apart.queued + apart.uncached).value()) + handoff_.seconds(prompt.value());
  const double cost_whole = prefill_.seconds((whole.queued + whole.uncached).value()) +
                            own_.seconds(prompt.value()) + here * whole.decoding;
  const bool prefers = cost_whole <= kWorthAHandoff * cost_apart;
  const bool close = cost_whole < kClose * cost_apart && cost_apart < kClose * cost_whole;
  return close && ++close_ % kTryEvery == 0 ? !prefers : prefers;
}

}  // namespace pd::policy
