// The leases of what one service holds for requests: granted with the hold, renewed by the gateway,
// ended by time. Loop thread only.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "base/metrics.h"
#include "net/event_loop.h"
#include "policy/lease_table.h"
#include "protocol/pd_messages.h"

namespace pd::worker {

inline policy::Holder holder_of(const protocol::AttemptId& id) { return {id.request, id.attempt}; }

class Leases {
 public:
  // `on_end` gives the hold back; the lease is gone when it runs. `ended` counts them.
  Leases(net::EventLoop& loop, Duration lease, Counter ended,
         std::function<void(const policy::Holder&)> on_end);
  ~Leases();

  void grant(const policy::Holder& holder);
  void drop(const policy::Holder& holder) { table_.drop(holder); }
  // Those that are not held any more, or never were, are added to `unknown`.
  void renew(const std::vector<protocol::AttemptId>& list,
             std::vector<protocol::AttemptId>& unknown);

 private:
  void arm();

  net::EventLoop& loop_;
  policy::LeaseTable table_;
  Counter ended_;
  std::function<void(const policy::Holder&)> on_end_;
  std::optional<net::EventLoop::TimerId> timer_;
};

}  // namespace pd::worker
