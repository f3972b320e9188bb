// Leases on whatever a worker holds for a request: P's slots and D's blocks. Who does not renew
// loses it (G2). Pure: told the time.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/time.h"
#include "policy/holder.h"

namespace pd::policy {

class LeaseTable {
 public:
  // 5 s: several renewals fit in, and a dead gateway's work is gone before a user notices.
  explicit LeaseTable(Duration lease = std::chrono::seconds(5)) : lease_(lease) {}

  // Starts the lease, or renews it when it is held already.
  void grant(const Holder& holder, Time now);
  // False: unknown, or ended already; the caller reports it, nothing is renewed.
  bool renew(const Holder& holder, Time now);
  void drop(const Holder& holder);
  bool holds(const Holder& holder) const { return ends_.contains(holder); }
  std::size_t size() const { return ends_.size(); }

  // Those whose lease ended at or before `now`, no longer held; ordered by end, then holder.
  std::vector<Holder> expire(Time now);
  std::optional<Time> next_deadline() const;

 private:
  Duration lease_;
  std::map<Holder, Time> ends_;
  std::set<std::pair<Time, Holder>> order_;
};

}  // namespace pd::policy
