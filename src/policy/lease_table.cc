#include "policy/lease_table.h"

namespace pd::policy {

void LeaseTable::grant(const Holder& holder, Time now) {
  drop(holder);
  const Time end = now + lease_;
  ends_.emplace(holder, end);
  order_.emplace(end, holder);
}

bool LeaseTable::renew(const Holder& holder, Time now) {
  const auto it = ends_.find(holder);
  // An ended lease stays ended even if nobody called expire() yet: the answer must not depend on
  // who came first.
  if (it == ends_.end() || it->second <= now) return false;
  grant(holder, now);
  return true;
}

void LeaseTable::drop(const Holder& holder) {
  const auto it = ends_.find(holder);
  if (it == ends_.end()) return;
  order_.erase({it->second, holder});
  ends_.erase(it);
}

std::vector<Holder> LeaseTable::expire(Time now) {
  std::vector<Holder> ended;
  while (!order_.empty() && order_.begin()->first <= now) {
    ended.push_back(order_.begin()->second);
    ends_.erase(ended.back());
    order_.erase(order_.begin());
  }
  return ended;
}

std::optional<Time> LeaseTable::next_deadline() const {
  if (order_.empty()) return std::nullopt;
  return order_.begin()->first;
}

}  // namespace pd::policy
