// How fast places of one role become free, as this gateway sees it: by how long its own legs hold
// them. Idle time does not count, because nobody holds a place in it.
#pragma once

#include <algorithm>
#include <optional>

#include "base/time.h"

namespace pd::policy {

class PlaceTurnover {
 public:
  void on_taken(Time now) {
    ++held_;
    taken_sum_ += since_start(now);
  }
  // `taken`: as it was told on_taken(). `measured`: it was held as long as such legs hold one.
  void on_freed(Time taken, bool measured, Time now) {
    --held_;
    taken_sum_ = held_ == 0 ? 0 : taken_sum_ - since_start(taken);
    if (!measured) return;
    const Duration took = std::max(now - taken, Duration(1));
    // 1/8: follows a change of load within some ten legs and ignores single outliers.
    mean_ = mean_ ? *mean_ + (took - *mean_) / 8 : took;
  }

  int held() const { return held_; }
  // How long a leg holds a place. Those that still hold theirs count by their age: when nothing
  // ends any more, nothing says so but they. nullopt: none has ended yet.
  std::optional<Duration> hold(Time now) const {
    if (!mean_) return std::nullopt;
    return std::max(*mean_, mean_age(now));
  }
  // How long those that hold a place have had it.
  Duration age(Time now) const { return mean_age(now); }
  // Until the next one becomes free; nullopt: not known.
  std::optional<Duration> freed_every(Time now) const {
    const auto holds = hold(now);
    if (!holds) return std::nullopt;
    return *holds / std::max(held_, 1);
  }

 private:
  double since_start(Time when) const { return to_seconds(when.time_since_epoch()); }
  Duration mean_age(Time now) const {
    if (held_ == 0) return {};
    const double age = since_start(now) - taken_sum_ / held_;
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(std::max(age, 0.0)));
  }

  int held_ = 0;
  double taken_sum_ = 0;  // seconds
  std::optional<Duration> mean_;
};

}  // namespace pd::policy
