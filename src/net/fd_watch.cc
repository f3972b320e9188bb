#include "net/fd_watch.h"

#include <fmt/format.h>

#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <utility>

#include "net/event_loop_impl.h"

namespace pd::net {
namespace asio = boost::asio;

struct FdWatch::State : std::enable_shared_from_this<State> {
  using Descriptor = asio::posix::basic_stream_descriptor<asio::io_context::executor_type>;

  State(EventLoop& loop, FdEvents wanted)
      : descriptor(loop.impl().context), events(std::move(wanted)) {}

  void arm(Descriptor::wait_type what, bool State::* armed,
           std::function<void()> FdEvents::* event) {
    if (this->*armed) return;
    this->*armed = true;
    descriptor.async_wait(
        what, [self = shared_from_this(), armed, event](const boost::system::error_code& failure) {
          State& state = *self;
          state.*armed = false;
          // `released`: a handler that was already queued when the watch went.
          if (!failure && !state.released && state.events.*event) (state.events.*event)();
        });
  }

  Descriptor descriptor;
  FdEvents events;
  bool readable_armed = false, writable_armed = false, hangup_armed = false;
  bool released = false;
};

Result<FdWatch> FdWatch::create(EventLoop& loop, int fd, FdEvents events) {
  auto state = std::make_shared<State>(loop, std::move(events));
  boost::system::error_code failure;
  state->descriptor.assign(fd, failure);
  if (failure) {
    return error(ErrorCode::kUnavailable,
                 fmt::format("cannot watch descriptor {}: {}", fd, failure.message()));
  }
  return FdWatch(std::move(state));
}

FdWatch& FdWatch::operator=(FdWatch&& other) noexcept {
  if (this != &other) {
    release();
    state_ = std::move(other.state_);
  }
  return *this;
}

FdWatch::~FdWatch() { release(); }

void FdWatch::release() {
  if (!state_) return;
  state_->released = true;
  if (state_->descriptor.is_open()) state_->descriptor.release();
  state_.reset();
}

void FdWatch::arm_readable() {
  if (!state_) return;
  state_->arm(asio::posix::descriptor_base::wait_read, &State::readable_armed,
              &FdEvents::on_readable);
}
void FdWatch::arm_writable() {
  if (!state_) return;
  state_->arm(asio::posix::descriptor_base::wait_write, &State::writable_armed,
              &FdEvents::on_writable);
}
void FdWatch::arm_hangup() {
  if (!state_) return;
  state_->arm(asio::posix::descriptor_base::wait_error, &State::hangup_armed, &FdEvents::on_hangup);
}

}  // namespace pd::net
