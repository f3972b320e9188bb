// How often requests may be placed again, over the whole gateway: a share of the traffic, so that
// faults do not multiply the load that caused them (G8). It delays, it does not end anything: a
// death breaks many streams at once and all of them must go on, and what exceeds the burst goes on
// at the pace of the budget.
#pragma once

#include <algorithm>

#include "base/time.h"

namespace pd::policy {

struct RetryBudgetOptions {
  double share = 0.1;      // retries per request that comes in
  double per_second = 20;  // and this many, however little comes in
  double burst = 512;      // saved up at most: the streams of a few instances that die together
};

class RetryBudget {
 public:
  explicit RetryBudget(const RetryBudgetOptions& options)
      : options_(options), left_(options.burst) {}

  void on_request() { left_ = std::min(options_.burst, left_ + options_.share); }
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
    const std::chrono::duration<double> missing((1 - left_) / options_.per_second);
    return now + std::chrono::duration_cast<Duration>(missing) + Duration(1);
  }
  double left() const { return left_; }

 private:
  void refill(Time now) {
    if (now > filled_ && filled_ != Time{})
      left_ = std::min(options_.burst, left_ + to_seconds(now - filled_) * options_.per_second);
    filled_ = std::max(filled_, now);
  }
  RetryBudgetOptions options_;
  double left_;
  Time filled_{};
};

}  // namespace pd::policy
