#include "policy/slots.h"

#include <algorithm>

namespace pd::policy {
namespace {

Duration from_seconds(double seconds) {
  // A day is beyond any hint; the clamp keeps the conversion defined.
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(std::clamp(seconds, 0.0, 86400.0)));
}

}  // namespace

SlotAnswer Slots::ask(const Holder& holder, Tokens work, Time now) {
  if (held_.contains(holder)) return {SlotAnswer::Kind::kDuplicate, Duration{}};
  if (used() >= options_.slots) return {SlotAnswer::Kind::kBusy, hint(now)};
  held_.emplace(holder, Held{std::max(work, Tokens(1)), now, std::nullopt});
  return {SlotAnswer::Kind::kAccepted, Duration{}};
}

void Slots::on_prefilled(const Holder& holder, Time now) {
  const auto it = held_.find(holder);
  if (it == held_.end() || it->second.prefilled) return;
  it->second.prefilled = now;
  learn(prefill_seconds_per_token_,
        to_seconds(now - it->second.accepted) / static_cast<double>(it->second.work.value()));
}

void Slots::release(const Holder& holder, bool measured, Time now) {
  const auto it = held_.find(holder);
  if (it == held_.end()) return;
  if (measured && it->second.prefilled) {
    learn(handoff_seconds_, to_seconds(now - *it->second.prefilled));
  }
  held_.erase(it);
}

Duration Slots::hint(Time now) const {
  Duration soonest = options_.hint_max;
  for (const auto& [holder, held] : held_) {
    const Time end = expected_end(held);
    // Overdue: the estimate was wrong, so wait a share of what has passed already. Asking again and
    // again at the minimum would be polling.
    const Duration wait = end > now ? end - now : (now - held.accepted) / 8;
    soonest = std::min(soonest, wait);
  }
  return std::clamp(soonest, options_.hint_min, options_.hint_max);
}

Time Slots::expected_end(const Held& held) const {
  const double half = to_seconds(options_.first_service) / 2;
  const Duration handoff = from_seconds(handoff_seconds_.value_or(half));
  if (held.prefilled) return *held.prefilled + handoff;
  const double prefill = prefill_seconds_per_token_
                             ? *prefill_seconds_per_token_ * static_cast<double>(held.work.value())
                             : half;
  return held.accepted + from_seconds(prefill) + handoff;
}

void Slots::learn(std::optional<double>& average, double seconds) const {
  average = average ? *average + options_.new_share * (seconds - *average) : seconds;
}

}  // namespace pd::policy
