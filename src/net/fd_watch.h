// Tells when a descriptor (socket, pipe, pidfd) is ready. Loop thread only.
#pragma once

#include <functional>
#include <memory>

#include "base/result.h"
#include "net/event_loop.h"

namespace pd::net {

struct FdEvents {
  std::function<void()> on_readable{};  // data, end of stream, or an error to be read
  std::function<void()> on_writable{};  // room, a finished connect(), or an error
  std::function<void()> on_hangup{};    // error, or both directions ended; not a mere end of stream
};

class FdWatch {
 public:
  // Does not own `fd`, which stays open as long as the watch. `loop` outlives it. kUnavailable: the
  // system refuses another watched descriptor.
  static Result<FdWatch> create(EventLoop& loop, int fd, FdEvents events);
  FdWatch() = default;  // watches nothing; arming it does nothing
  FdWatch(FdWatch&&) noexcept = default;
  FdWatch& operator=(FdWatch&& other) noexcept;
  ~FdWatch();  // no callback runs afterwards; allowed inside one

  // Each asks for one call of its callback; asking again before that call changes nothing.
  void arm_readable();
  void arm_writable();
  void arm_hangup();

 private:
  struct State;
  friend class EventLoop;
  explicit FdWatch(std::shared_ptr<State> state) : state_(std::move(state)) {}
  void release();
  void arm(bool State::* what);
  std::shared_ptr<State> state_;
};

}  // namespace pd::net
