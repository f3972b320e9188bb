// Virtual time: things happen in order of their time, those of one time in the order in which they
// were planned. One thread, no clock.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "base/time.h"

namespace pd::sim {

class VirtualTime {
 public:
  explicit VirtualTime(Time start) : now_(start) {}
  Time now() const { return now_; }

  void at(Time when, std::function<void()> what) {
    planned_.emplace(std::pair(when < now_ ? now_ : when, next_++), std::move(what));
  }
  void after(Duration delay, std::function<void()> what) { at(now_ + delay, std::move(what)); }

  std::optional<Time> next() const {
    return planned_.empty() ? std::nullopt : std::optional(planned_.begin()->first.first);
  }
  // Runs the earliest; false: nothing is planned.
  bool step() {
    if (planned_.empty()) return false;
    auto first = planned_.extract(planned_.begin());
    now_ = first.key().first;
    first.mapped()();
    return true;
  }
  // Passes to `when`, which is before anything planned.
  void pass_to(Time when) { now_ = when; }

 private:
  Time now_;
  std::uint64_t next_ = 0;
  std::map<std::pair<Time, std::uint64_t>, std::function<void()>> planned_;
};

}  // namespace pd::sim
