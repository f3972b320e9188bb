#include "policy/waiting_line.h"

#include <algorithm>

#include "base/check.h"

namespace pd::policy {
namespace {

// Tenants that do not wait and are not ahead of those who do have nothing to be remembered for.
constexpr std::size_t kLinesMax = 4096;

}  // namespace

void WaitingLine::set_weight(TenantId tenant, double weight) {
  CHECK(weight > 0);
  lines_[tenant].weight = weight;
}

Duration WaitingLine::expected_prefill(Tokens tokens) const {
  const auto counted = std::min<std::int64_t>(tokens.value(), 1 << 24);
  return std::min(per_token_, Duration(std::chrono::milliseconds(100))) * counted;
}

Duration WaitingLine::postponed(const Waiter& waiter) const {
  const Duration own = expected_prefill(waiter.work);
  return own < options_.aging_max / options_.postponement ? own * options_.postponement
                                                          : options_.aging_max;
}

void WaitingLine::add(const Waiter& waiter) {
  const Key deadline{waiter.first_token, waiter.order};
  const Time shifted = waiter.first_token - waiter.priority * options_.priority_step;
  const Key place{shifted + postponed(waiter), waiter.order};
  if (!places_.emplace(waiter.order, place).second) return;
  ++size_;
  if (!waiter.in_time)
    deadlines_.emplace(Key{waiter.first_token - waiter.reserve, waiter.order}, waiter.request);
  if (waiter.again) {
    (waiter.charged ? charged_ : again_).emplace(deadline, waiter.request);
    return;
  }
  Line& line = lines_[waiter.tenant];
  if (line.waiting.empty()) {
    // Where nobody waits nobody was kept from anything: all start equal.
    if (backlogged_.empty()) floor_ = peak_;
    line.served = std::max(line.served, floor_);
    backlogged_.emplace(line.served, waiter.tenant);
  }
  line.waiting.emplace(place, waiter.request);
}

void WaitingLine::remove(const Waiter& waiter) {
  const auto place = places_.find(waiter.order);
  if (place == places_.end()) return;
  const Key key = place->second;
  places_.erase(place);
  --size_;
  deadlines_.erase({waiter.first_token - waiter.reserve, waiter.order});
  if (waiter.again) {
    (waiter.charged ? charged_ : again_).erase({waiter.first_token, waiter.order});
    return;
  }
  Line& line = lines_.at(waiter.tenant);
  line.waiting.erase(key);
  if (!line.waiting.empty()) return;
  backlogged_.erase({line.served, waiter.tenant});
  if (!backlogged_.empty()) floor_ = backlogged_.begin()->first;
  forget_idle();
}

std::optional<RequestId> WaitingLine::next() const {
  if (backlogged_.empty()) return std::nullopt;
  return lines_.at(backlogged_.begin()->second).waiting.begin()->second;
}

std::optional<std::pair<Time, RequestId>> WaitingLine::first_overdue() const {
  if (deadlines_.empty()) return std::nullopt;
  const auto& [key, request] = *deadlines_.begin();
  return std::pair(key.first, request);
}

std::size_t WaitingLine::served_by_then(Time now, Duration every) const {
  std::size_t served = size_ - deadlines_.size();
  for (const auto& [key, request] : deadlines_) {
    if (now + every * static_cast<std::int64_t>(served + 1) <= key.first) ++served;
  }
  return served;
}

void WaitingLine::charge_prompt(TenantId tenant, Tokens tokens) {
  charge(tenant, static_cast<double>(tokens.value()));
}

void WaitingLine::charge_output(TenantId tenant, Tokens tokens) {
  charge(tenant, options_.output_price * static_cast<double>(tokens.value()));
}

void WaitingLine::charge(TenantId tenant, double work) {
  Line& line = lines_[tenant];
  const bool waits = !line.waiting.empty();
  if (waits) backlogged_.erase({line.served, tenant});
  line.served += work / line.weight;
  peak_ = std::max(peak_, line.served);
  if (waits) {
    backlogged_.emplace(line.served, tenant);
    floor_ = backlogged_.begin()->first;
  }
}

void WaitingLine::on_prefilled(Tokens tokens, Duration took) {
  if (tokens.value() < 1 || took < Duration(0)) return;
  // 1/16: follows a change of load within some twenty prompts.
  per_token_ += (took / tokens.value() - per_token_) / 16;
}

double WaitingLine::served(TenantId tenant) const {
  const auto it = lines_.find(tenant);
  return it == lines_.end() ? 0 : it->second.served;
}

void WaitingLine::forget_idle() {
  if (lines_.size() <= kLinesMax) return;
  std::erase_if(lines_, [this](const auto& entry) {
    const Line& line = entry.second;
    return line.waiting.empty() && line.weight == 1 && line.served <= floor_;
  });
}

}  // namespace pd::policy
