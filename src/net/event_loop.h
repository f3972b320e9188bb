// One thread's event loop: timers, posted work, sockets. Owns no thread; run() borrows the
// caller's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/time.h"

namespace pd::net {

class EventLoop {
 public:
  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Runs handlers on this thread until stop().
  void run();
  // From any thread.
  void stop();
  void post(std::function<void()> work);

  using TimerId = std::uint64_t;
  // Loop thread only. Runs once at `when` (SteadyTime) unless cancelled.
  TimerId call_at(Time when, std::function<void()> work);
  void cancel(TimerId timer);
  Time now() const;  // SteadyTime

  // Calls `work` on the loop for each of these signals instead of the default action. Loop thread,
  // before run().
  void on_signals(std::initializer_list<int> signals, std::function<void(int)> work);

  struct Impl;  // net only
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace pd::net
