#include "policy/gateway_presence.h"

#include <algorithm>
#include <utility>

namespace pd::policy {

GatewayPresence::GatewayPresence(const Options& options, Time now)
    : options_(options), known_from_(now + options.grace) {}

void GatewayPresence::on_ask(std::uint64_t gateway, Time now) {
  if (!gateways_.contains(gateway) && gateways_.size() >= options_.gateways_max) return;
  Gateway& one = gateways_[gateway];
  ++one.asking;
  one.seen = now;
}

void GatewayPresence::on_end(std::uint64_t gateway, Time now) {
  const auto it = gateways_.find(gateway);
  if (it == gateways_.end()) return;
  it->second.asking = std::max(0, it->second.asking - 1);
  it->second.seen = now;
}

bool GatewayPresence::poll(Time now) {
  std::erase_if(gateways_, [&](const auto& entry) {
    return entry.second.asking == 0 && entry.second.seen + options_.grace <= now;
  });
  known_ = known_ || now >= known_from_;
  const int before = std::exchange(count_, known_ ? static_cast<int>(gateways_.size()) : 0);
  return count_ != before;
}

std::optional<Time> GatewayPresence::next_deadline() const {
  std::optional<Time> next;
  if (!known_) next = known_from_;
  for (const auto& [id, gateway] : gateways_) {
    if (gateway.asking > 0) continue;
    const Time gone = gateway.seen + options_.grace;
    next = next ? std::min(*next, gone) : gone;
  }
  return next;
}

}  // namespace pd::policy
