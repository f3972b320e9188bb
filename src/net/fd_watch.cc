#include "net/fd_watch.h"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "net/event_loop_impl.h"

namespace pd::net {
namespace {

// Reported whether asked for or not: an error, or both directions ended.
constexpr std::uint32_t kHungUp = EPOLLERR | EPOLLHUP;

}  // namespace

std::uint32_t FdWatch::State::wanted() const {
  std::uint32_t out = 0;
  if (readable || keeps_reading) out |= EPOLLIN;
  if (writable) out |= EPOLLOUT;
  return out;
}

bool FdWatch::State::call(bool State::* armed, std::function<void()> FdEvents::* event) {
  if (!std::exchange(this->*armed, false)) return false;
  if (events.*event) (events.*event)();
  return true;
}

void FdWatch::State::dispatch(std::uint32_t ready) {
  if (released) return;
  const auto self = shared_from_this();  // a callback may release it
  const bool bad = (ready & kHungUp) != 0;
  bool told = false;
  if (bad) told = call(&State::hangup, &FdEvents::on_hangup);
  if (!released && (bad || (ready & EPOLLOUT) != 0)) {
    told |= call(&State::writable, &FdEvents::on_writable);
    change_later();  // a socket is writable nearly always
  }
  if (!released && (bad || (ready & EPOLLIN) != 0)) {
    const bool read = call(&State::readable, &FdEvents::on_readable);
    told |= read;
    if (!read) {
      keeps_reading = false;
      change_later();
    }
  }
  if (released || !bad || told) return;
  hung_up = true;  // it would be reported for ever
  ::epoll_ctl(loop.epoll.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void FdWatch::State::change_later() {
  if (released || std::exchange(changes, true)) return;
  loop.changed.push_back(shared_from_this());
}

void EventLoop::Impl::register_changes() {
  for (const auto& watch : changed) {
    watch->changes = false;
    if (watch->released || watch->hung_up || watch->wanted() == watch->registered) continue;
    watch->registered = watch->wanted();
    epoll_event event{.events = watch->registered, .data = {.ptr = watch.get()}};
    ::epoll_ctl(epoll.get(), EPOLL_CTL_MOD, watch->fd, &event);
  }
  changed.clear();
}

Result<FdWatch> FdWatch::create(EventLoop& loop, int fd, FdEvents events) {
  auto state = std::make_shared<State>(loop.impl(), fd, std::move(events));
  state->registered = state->wanted();
  epoll_event event{.events = state->registered, .data = {.ptr = state.get()}};
  if (::epoll_ctl(loop.impl().epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return error(ErrorCode::kUnavailable,
                 fmt::format("cannot watch descriptor {}: {}", fd, std::strerror(errno)));
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
  EventLoop::Impl& loop = state_->loop;
  state_->released = true;
  if (!state_->hung_up) ::epoll_ctl(loop.epoll.get(), EPOLL_CTL_DEL, state_->fd, nullptr);
  loop.released.push_back(std::move(state_));
}

void FdWatch::arm(bool State::* what) {
  if (!state_ || std::exchange((*state_).*what, true)) return;
  if (state_->hung_up) {
    state_->loop.posted.push_back([state = state_] { state->dispatch(kHungUp); });
    return;
  }
  state_->keeps_reading |= state_->readable;
  if (state_->wanted() != state_->registered) state_->change_later();
}

void FdWatch::arm_readable() { arm(&State::readable); }
void FdWatch::arm_writable() { arm(&State::writable); }
void FdWatch::arm_hangup() { arm(&State::hangup); }

}  // namespace pd::net
