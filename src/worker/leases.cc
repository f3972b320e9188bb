#include "worker/leases.h"

#include <utility>

#include "base/log.h"
#include "base/text.h"

namespace pd::worker {

Leases::Leases(net::EventLoop& loop, Duration lease, Counter ended,
               std::function<void(const policy::Holder&)> on_end)
    : loop_(loop), table_(lease), ended_(ended), on_end_(std::move(on_end)) {}

Leases::~Leases() {
  if (timer_) loop_.cancel(*timer_);
}

void Leases::grant(const policy::Holder& holder) {
  table_.grant(holder, loop_.now());
  arm();
}

void Leases::renew(const std::vector<protocol::AttemptId>& list,
                   std::vector<protocol::AttemptId>& unknown) {
  for (const protocol::AttemptId& attempt : list) {
    if (!table_.renew(holder_of(attempt), loop_.now())) unknown.push_back(attempt);
  }
}

// One timer at the earliest end; renewals make it too early, never too late.
void Leases::arm() {
  if (timer_) return;
  const auto next = table_.next_deadline();
  if (!next) return;
  timer_ = loop_.call_at(*next, [this] {
    timer_.reset();
    for (const policy::Holder& holder : table_.expire(loop_.now())) {
      ended_.add();
      log::warn("request {} attempt {}: its holder did not renew the lease",
                to_string(holder.request), holder.attempt);
      on_end_(holder);
    }
    arm();
  });
}

}  // namespace pd::worker
