// One deadline that moves often. Moving it later is free: the loop's timer stays where it is and is
// set anew when it fires too early. Loop thread only. Internal to net.
#pragma once

#include <functional>
#include <optional>
#include <utility>

#include "net/event_loop.h"

namespace pd::net {

class DeadlineTimer {
 public:
  DeadlineTimer(EventLoop& loop, std::function<void()> on_due)
      : loop_(loop), on_due_(std::move(on_due)) {}
  ~DeadlineTimer() { stop(); }
  DeadlineTimer(const DeadlineTimer&) = delete;
  DeadlineTimer& operator=(const DeadlineTimer&) = delete;

  // nullopt: none. on_due() runs once per deadline set.
  void set(std::optional<Time> deadline) {
    deadline_ = deadline;
    if (!deadline_ || (timer_ != 0 && armed_for_ <= *deadline_)) return;
    stop();
    arm();
  }
  void stop() {
    if (timer_ != 0) loop_.cancel(std::exchange(timer_, 0));
  }

 private:
  void arm() {
    armed_for_ = *deadline_;
    timer_ = loop_.call_at(armed_for_, [this] { fire(); });
  }
  void fire() {
    timer_ = 0;
    if (!deadline_) return;
    if (*deadline_ > loop_.now()) return arm();
    deadline_.reset();
    const std::function<void()> work = on_due_;  // which may destroy this timer
    work();
  }

  EventLoop& loop_;
  std::function<void()> on_due_;
  std::optional<Time> deadline_;
  Time armed_for_{};
  EventLoop::TimerId timer_ = 0;
};

}  // namespace pd::net
