#include "net/event_loop.h"

#include <boost/asio/post.hpp>
#include <utility>

#include "base/check.h"
#include "net/event_loop_impl.h"

namespace pd::net {
namespace asio = boost::asio;

namespace {

std::chrono::steady_clock::time_point steady(Time time) {
  return std::chrono::steady_clock::time_point(time.time_since_epoch());
}

void wait_for_signal(asio::signal_set& set, std::shared_ptr<std::function<void(int)>> work) {
  set.async_wait([&set, work](const boost::system::error_code& failure, int signal) {
    if (failure) return;
    (*work)(signal);
    wait_for_signal(set, work);
  });
}

}  // namespace

// One Asio timer for the earliest entry; it is set anew only when an earlier one comes.
void EventLoop::Impl::arm() {
  const std::optional<Time> next = timers.next();
  if (!next || (armed_for && *armed_for <= *next)) return;
  armed_for = next;
  timer.expires_at(steady(*next));
  timer.async_wait([this](const boost::system::error_code& failure) {
    if (failure) return;  // replaced by an earlier one
    armed_for.reset();
    run_due();
    arm();
  });
}

void EventLoop::Impl::run_due() {
  const Time now = SteadyTime::now();
  const std::uint64_t newest = timers.newest();
  while (std::function<void()> work = timers.pop_due(now, newest)) work();
}

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {}
EventLoop::~EventLoop() = default;

void EventLoop::run() {
  impl_->context.run();
  impl_->context.restart();
}

void EventLoop::stop() { impl_->context.stop(); }

void EventLoop::post(std::function<void()> work) { asio::post(impl_->context, std::move(work)); }

EventLoop::TimerId EventLoop::call_at(Time when, std::function<void()> work) {
  const TimerId id = impl_->timers.add(when, std::move(work));
  impl_->arm();
  return id;
}

void EventLoop::cancel(TimerId timer) { impl_->timers.cancel(timer); }

Time EventLoop::now() const { return SteadyTime::now(); }

void EventLoop::on_signals(std::initializer_list<int> signals, std::function<void(int)> work) {
  asio::signal_set& set = impl_->signals.emplace_back(impl_->context);
  for (const int signal : signals) {
    boost::system::error_code failure;
    set.add(signal, failure);
    CHECK(!failure);  // a number that is no signal: our own mistake
  }
  wait_for_signal(set, std::make_shared<std::function<void(int)>>(std::move(work)));
}

}  // namespace pd::net
