// One thread's event loop: timers, posted work, descriptors. Owns no thread; run() borrows the
// caller's.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>

#include "base/time.h"

namespace pd::net {

class EventLoop {
 public:
  EventLoop();
  ~EventLoop();  // drops pending work without running it
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Runs handlers on this thread until stop(). A stop() that comes first ends the next run() at
  // once.
  void run();
  // From any thread.
  void stop();
  void post(std::function<void()> work);

  using TimerId = std::uint64_t;  // never 0
  // Loop thread only. Runs once at `when` (SteadyTime) unless cancelled; a time that has passed: in
  // the next turn of the loop.
  TimerId call_at(Time when, std::function<void()> work);
  void cancel(TimerId timer);  // harmless for one that has run
  Time now() const;            // SteadyTime

  // Calls `work` on the loop for each of these signals instead of the default action. Loop thread,
  // before run(). Signals belong to the process: one loop of it may ask for each.
  void on_signals(std::initializer_list<int> signals, std::function<void(int)> work);

  struct Impl;  // net only
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace pd::net
