#include "net/event_loop.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/check.h"
#include "net/event_loop_impl.h"

namespace pd::net {
namespace {

constexpr int kEventsPerTurn = 256;

// Who is told of a signal: the descriptor that its number is written to. Signals belong to the
// process, and so does this.
std::array<std::atomic<int>, NSIG> g_signal_writers;

void on_signal_here(int signal) {
  const int error_number = errno;
  const int writer = g_signal_writers[static_cast<std::size_t>(signal)].load();
  const char number = static_cast<char>(signal);
  // Full: so many are waiting to be read that one more says nothing new.
  if (writer > 0) static_cast<void>(!::write(writer, &number, 1));
  errno = error_number;
}

// Of so many nanoseconds; nullopt: none.
int wait_for_events(int epoll, std::array<epoll_event, kEventsPerTurn>& events,
                    std::optional<Duration> limit) {
  static std::atomic<bool> has_nanoseconds{true};
  if (has_nanoseconds.load(std::memory_order_relaxed)) {
    timespec time{};
    if (limit) {
      time.tv_sec = limit->count() / 1'000'000'000;
      time.tv_nsec = limit->count() % 1'000'000'000;
    }
    const int ready =
        ::epoll_pwait2(epoll, events.data(), kEventsPerTurn, limit ? &time : nullptr, nullptr);
    if (ready >= 0 || errno != ENOSYS) return ready;
    has_nanoseconds = false;  // a kernel before 5.11
  }
  int milliseconds = -1;
  if (limit) {
    const auto whole = std::chrono::ceil<std::chrono::milliseconds>(*limit).count();
    milliseconds = static_cast<int>(std::min<std::int64_t>(whole, 3'600'000));
  }
  return ::epoll_wait(epoll, events.data(), kEventsPerTurn, milliseconds);
}

}  // namespace

EventLoop::Impl::Impl()
    : epoll(::epoll_create1(EPOLL_CLOEXEC)), wakeup(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  CHECK(epoll);  // a process without a descriptor for its loop cannot begin anything
  CHECK(wakeup);
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  CHECK(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wakeup.get(), &event) == 0);
}

EventLoop::Impl::~Impl() {
  for (const int signal : signals) {
    ::signal(signal, SIG_DFL);
    g_signal_writers[static_cast<std::size_t>(signal)] = 0;
  }
}

void EventLoop::Impl::wake() {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(wakeup.get(), &one, sizeof one));
}

// What is ready, what is due, what was posted: work that any of these adds waits for its turn, so
// that nothing can hold the loop.
void EventLoop::Impl::turn() {
  released.clear();
  register_changes();
  std::array<epoll_event, kEventsPerTurn> events;
  const int ready = wait_for_events(epoll.get(), events, time_to_sleep());
  for (int i = 0; i < ready && !stopping.load(std::memory_order_relaxed); ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    if (event.data.ptr != nullptr) {
      static_cast<FdWatch::State*>(event.data.ptr)->dispatch(event.events);
      continue;
    }
    std::uint64_t count = 0;
    static_cast<void>(!::read(wakeup.get(), &count, sizeof count));
    std::lock_guard lock(mutex);
    woken = false;
    std::ranges::move(posted_elsewhere, std::back_inserter(posted));
    posted_elsewhere.clear();
  }
  run_timers();
  run_posted();
}

std::optional<Duration> EventLoop::Impl::time_to_sleep() const {
  if (!posted.empty()) return Duration{};
  const auto next = timers.next();
  if (!next) return std::nullopt;
  return std::max(*next - SteadyTime::now(), Duration{});
}

void EventLoop::Impl::run_timers() {
  if (!timers.next()) return;
  const Time now = SteadyTime::now();
  const std::uint64_t newest = timers.newest();
  while (!stopping.load(std::memory_order_relaxed)) {
    const std::function<void()> work = timers.pop_due(now, newest);
    if (!work) return;
    work();
  }
}

void EventLoop::Impl::run_posted() {
  for (std::size_t left = posted.size(); left > 0; --left) {
    if (stopping.load(std::memory_order_relaxed)) return;
    const std::function<void()> work = std::move(posted.front());
    posted.pop_front();
    work();
  }
}

// Work that goes may hold what, going, adds or cancels work.
void EventLoop::Impl::drop_work() {
  while (!posted.empty() || timers.next() || !posted_elsewhere.empty()) {
    const auto own = std::exchange(posted, {});
    const auto due = std::exchange(timers, {});
    const auto others = std::exchange(posted_elsewhere, {});
  }
}

void EventLoop::Impl::read_signals() {
  char numbers[64];
  const ssize_t got = ::read(signal_reader.get(), numbers, sizeof numbers);
  signal_watch.arm_readable();
  for (ssize_t i = 0; i < got; ++i) on_signal(static_cast<unsigned char>(numbers[i]));
}

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {}
EventLoop::~EventLoop() {
  if (impl_->names) impl_->names->close();
  if (impl_->resolver.joinable()) impl_->resolver.join();
  impl_->drop_work();
}

void EventLoop::run() {
  impl_->runner = std::this_thread::get_id();
  while (!impl_->stopping.exchange(false)) impl_->turn();
  impl_->runner = std::thread::id();
}

void EventLoop::stop() {
  impl_->stopping = true;
  if (!impl_->in_loop()) impl_->wake();
}

void EventLoop::post(std::function<void()> work) {
  if (impl_->in_loop()) return impl_->posted.push_back(std::move(work));
  std::lock_guard lock(impl_->mutex);
  impl_->posted_elsewhere.push_back(std::move(work));
  if (!std::exchange(impl_->woken, true)) impl_->wake();
}

EventLoop::TimerId EventLoop::call_at(Time when, std::function<void()> work) {
  return impl_->timers.add(when, std::move(work));
}

void EventLoop::cancel(TimerId timer) { impl_->timers.cancel(timer); }

Time EventLoop::now() const { return SteadyTime::now(); }

void EventLoop::on_signals(std::initializer_list<int> signals, std::function<void(int)> work) {
  CHECK(impl_->signals.empty());  // once per loop
  int ends[2];
  CHECK(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
  impl_->signal_reader.reset(ends[0]);
  impl_->signal_writer.reset(ends[1]);
  impl_->on_signal = std::move(work);
  auto watch = FdWatch::create(*this, ends[0], {.on_readable = [this] { impl_->read_signals(); }});
  CHECK(watch);
  impl_->signal_watch = std::move(*watch);
  impl_->signal_watch.arm_readable();
  impl_->signals = signals;
  for (const int signal : signals) {
    CHECK(signal > 0 && signal < NSIG);
    g_signal_writers[static_cast<std::size_t>(signal)] = ends[1];
    struct sigaction action{};
    action.sa_handler = on_signal_here;
    action.sa_flags = SA_RESTART;
    CHECK(::sigaction(signal, &action, nullptr) == 0);
  }
}

}  // namespace pd::net
