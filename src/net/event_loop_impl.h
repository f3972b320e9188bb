// What an event loop is made of: epoll, and a descriptor that wakes it. Internal to net; Linux
// only.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"
#include "base/unique_fd.h"
#include "net/event_loop.h"
#include "net/fd_watch.h"
#include "net/timer_queue.h"

namespace pd::net {

// Level-triggered: what is armed and ready is told, however it came about. Interest in reading
// stays registered while a callback runs, because nearly every one arms it again: no system call
// then.
struct FdWatch::State : std::enable_shared_from_this<State> {
  State(EventLoop::Impl& the_loop, int the_fd, FdEvents the_events)
      : loop(the_loop), fd(the_fd), events(std::move(the_events)) {}
  std::uint32_t wanted() const;
  void dispatch(std::uint32_t ready);
  void change_later();
  // Runs the callback if it was armed and is there. False: it was not armed.
  bool call(bool State::* armed, std::function<void()> FdEvents::* event);

  EventLoop::Impl& loop;
  const int fd;
  FdEvents events;
  std::uint32_t registered = 0;
  bool readable = false, writable = false, hangup = false;  // armed
  bool keeps_reading = true;  // interest in reading is kept although it is not armed
  bool changes = false;       // in loop.changed
  bool hung_up = false;       // nobody had armed anything for it: taken out of epoll
  bool released = false;
};

struct EventLoop::Impl {
  Impl();
  ~Impl();

  bool in_loop() const {
    return runner.load(std::memory_order_relaxed) == std::this_thread::get_id();
  }
  void wake();
  void turn();
  void register_changes();
  std::optional<Duration> time_to_sleep() const;
  void run_timers();
  void run_posted();
  void read_signals();
  void drop_work();

  UniqueFd epoll;
  UniqueFd wakeup;  // an eventfd
  TimerQueue timers;
  std::deque<std::function<void()>> posted;               // the loop thread's own
  std::vector<std::shared_ptr<FdWatch::State>> changed;   // registered anew before the next sleep
  std::vector<std::shared_ptr<FdWatch::State>> released;  // events of this turn may still name them

  std::atomic<bool> stopping{false};
  std::atomic<std::thread::id> runner{};
  // Work from other threads. Not a BoundedQueue: a post cannot fail, and who posts bounds itself.
  std::mutex mutex;
  std::vector<std::function<void()>> posted_elsewhere;
  bool woken = false;  // the eventfd says so already

  UniqueFd signal_reader, signal_writer;  // numbers of signals, as bytes
  FdWatch signal_watch;
  std::vector<int> signals;
  std::function<void(int)> on_signal;

  // Host names are resolved by a thread that begins with the first.
  std::unique_ptr<BoundedQueue<std::function<void()>>> names;
  std::jthread resolver;
};

}  // namespace pd::net
