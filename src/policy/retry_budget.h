// How often requests may be placed again, over the whole gateway: a share of the traffic, so that
// faults do not multiply the load that caused them (G8). It delays, it does not end anything. Who
// asks decides what is charged; the first resume after a death is not (dispatcher.h).
#pragma once

#include <algorithm>

#include "base/time.h"

namespace pd::policy {

struct RetryBudgetOptions {
  double share = 0.1;  // retries per request that comes in (G8)
  // Or this many, if so little comes in that it is more: what waits for one is not lost.
  double per_second = 0.1;
  // Saved up at most. It need not hold the streams of an instance that dies: they are not charged.
  double burst = 16;
};

class RetryBudget {
 public:
  explicit RetryBudget(const RetryBudgetOptions& options)
      : options_(options), left_(options.burst) {}

  void on_request() {
    add(options_.share);
    ahead_ = std::min(options_.burst, ahead_ + options_.share);
  }
  // One retry, now; false: not yet.
  bool take(Time now) {
    refill(now);
    if (left_ < 1) return false;
    left_ -= 1;
    return true;
  }
  // When take() will not be refused for want of time, if nothing comes in until then.
  Time next(Time now) {
    refill(now);
    if (left_ >= 1) return now;
    const std::chrono::duration<double> missing((1 - left_ + ahead_) / options_.per_second);
    return now + std::chrono::duration_cast<Duration>(missing) + Duration(1);
  }
  double left() const { return left_; }

 private:
  void add(double retries) { left_ = std::min(options_.burst, left_ + retries); }
  // Time grants only what traffic has not.
  void refill(Time now) {
    if (now > filled_ && filled_ != Time{}) {
      const double due = to_seconds(now - filled_) * options_.per_second;
      add(std::max(due - ahead_, 0.0));
      ahead_ = std::max(ahead_ - due, 0.0);
    }
    filled_ = std::max(filled_, now);
  }
  RetryBudgetOptions options_;
  double left_;
  double ahead_ = 0;  // that traffic has granted more than time would have
  Time filled_{};
};

}  // namespace pd::policy
