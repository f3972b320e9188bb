#include "policy/whole_service.h"

#include <algorithm>

namespace pd::policy {

// A handoff uses a link and a second instance: not for what may be an error of measurement.
constexpr double kWorthAHandoff = 1.1;
// What is not taken is not measured: an estimate from a bad moment, as its first, would stay. Of
// decisions between costs closer than the factor, one in so many goes the other way.
constexpr double kClose = 4.0;
constexpr std::uint64_t kTryEvery = 16;

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
