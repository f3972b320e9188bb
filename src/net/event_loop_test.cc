#include "net/event_loop.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/rng.h"
#include "base/unique_fd.h"
#include "net/deadline_timer.h"
#include "net/fd_watch.h"
#include "net/timer_queue.h"

namespace pd::net {
namespace {

using namespace std::chrono_literals;

Time at(int nanoseconds) { return Time(Duration(nanoseconds)); }

TEST(TimerQueue, RunsInOrderOfTimeThenOfAdding) {
  TimerQueue queue;
  std::string order;
  queue.add(at(2), [&] { order += 'c'; });
  queue.add(at(1), [&] { order += 'a'; });
  queue.add(at(1), [&] { order += 'b'; });
  const auto cancelled = queue.add(at(1), [&] { order += 'x'; });
  queue.cancel(cancelled);
  queue.cancel(cancelled);
  EXPECT_EQ(queue.next(), at(1));
  while (auto work = queue.pop_due(at(1), queue.newest())) work();
  EXPECT_EQ(order, "ab");
  EXPECT_EQ(queue.next(), at(2));
  while (auto work = queue.pop_due(at(5), queue.newest())) work();
  EXPECT_EQ(order, "abc");
  EXPECT_EQ(queue.next(), std::nullopt);
}

TEST(TimerQueue, WorkAddedMeanwhileWaitsForTheNextTurn) {
  TimerQueue queue;
  queue.add(at(5), [] {});
  const auto newest = queue.newest();
  queue.add(at(1), [] {});
  EXPECT_TRUE(queue.pop_due(at(9), newest));
  EXPECT_FALSE(queue.pop_due(at(9), newest));
  EXPECT_EQ(queue.size(), 1u);
}

// Against the plainest model: a list searched for its earliest entry.
TEST(TimerQueue, AgreesWithAListUnderRandomUse) {
  Rng rng(3);
  TimerQueue queue;
  std::vector<std::pair<Time, TimerQueue::TimerId>> model;
  for (int step = 0; step < 20000; ++step) {
    const auto what = rng.below(10);
    if (what < 5) {
      const Time when = at(static_cast<int>(rng.below(1000)));
      model.emplace_back(when, queue.add(when, [] {}));
    } else if (what < 7 && !model.empty()) {
      const auto victim = model.begin() + static_cast<std::ptrdiff_t>(rng.below(model.size()));
      queue.cancel(victim->second);
      model.erase(victim);
    } else {
      const Time now = at(static_cast<int>(rng.below(1000)));
      const auto earliest = std::ranges::min_element(model);
      const bool due = earliest != model.end() && earliest->first <= now;
      ASSERT_EQ(static_cast<bool>(queue.pop_due(now, queue.newest())), due);
      if (due) model.erase(earliest);
    }
    ASSERT_EQ(queue.size(), model.size());
    const auto earliest = std::ranges::min_element(model);
    ASSERT_EQ(queue.next(),
              earliest == model.end() ? std::nullopt : std::optional<Time>(earliest->first));
  }
}

TEST(EventLoop, TimersRunAtTheirTimeAndNotBefore) {
  EventLoop loop;
  std::vector<int> order;
  const Time started = loop.now();
  loop.call_at(started + 20ms, [&] {
    EXPECT_GE(loop.now() - started, 20ms);
    order.push_back(2);
    loop.stop();
  });
  const auto cancelled = loop.call_at(started + 5ms, [&] { order.push_back(9); });
  loop.call_at(started + 10ms, [&] { order.push_back(1); });
  loop.call_at(started - 1s, [&] {
    order.push_back(0);
    loop.cancel(cancelled);
  });
  loop.run();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2}));
}

TEST(EventLoop, ATimerThatAddsDueWorkDoesNotHoldTheLoop) {
  EventLoop loop;
  std::function<void()> again = [&] { loop.call_at(loop.now(), again); };
  again();
  loop.call_at(loop.now() + 5ms, [&] { loop.stop(); });
  loop.run();  // would never return
}

TEST(EventLoop, PostsFromOtherThreadsArriveInTheirOrder) {
  EventLoop loop;
  constexpr int kThreads = 4;
  constexpr int kPosts = 2000;
  std::array<std::vector<int>, kThreads> got;
  int left = kThreads * kPosts;
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kPosts; ++i) {
        loop.post([&, thread, i] {
          got[static_cast<std::size_t>(thread)].push_back(i);
          if (--left == 0) loop.stop();
        });
      }
    });
  }
  loop.run();
  for (const auto& numbers : got) {
    EXPECT_EQ(numbers.size(), static_cast<std::size_t>(kPosts));
    EXPECT_TRUE(std::ranges::is_sorted(numbers));
  }
}

TEST(EventLoop, AStopThatComesFirstEndsTheNextRun) {
  EventLoop loop;
  loop.stop();
  loop.run();
  bool ran = false;
  loop.post([&] {
    ran = true;
    loop.stop();
  });
  loop.run();
  EXPECT_TRUE(ran);
}

TEST(EventLoop, SignalsComeToTheLoop) {
  EventLoop loop;
  std::vector<int> got;
  loop.on_signals({SIGUSR1, SIGUSR2}, [&](int signal) {
    got.push_back(signal);
    if (got.size() == 1) ::raise(SIGUSR2);
    if (got.size() == 2) loop.stop();
  });
  ::raise(SIGUSR1);
  loop.run();
  EXPECT_EQ(got, (std::vector<int>{SIGUSR1, SIGUSR2}));
}

struct Ends {
  Ends() {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    ours.reset(fds[0]);
    theirs.reset(fds[1]);
  }
  UniqueFd ours, theirs;
};

TEST(FdWatch, EachArmingGivesOneCall) {
  EventLoop loop;
  Ends ends;
  int readable = 0;
  int writable = 0;
  auto watch =
      FdWatch::create(loop, ends.ours.get(),
                      {.on_readable = [&] { ++readable; }, .on_writable = [&] { ++writable; }});
  ASSERT_TRUE(watch.has_value());
  ASSERT_EQ(::write(ends.theirs.get(), "x", 1), 1);
  watch->arm_readable();
  watch->arm_readable();
  watch->arm_writable();
  loop.call_at(loop.now() + 5ms, [&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(readable, 1);
  EXPECT_EQ(writable, 1);
  watch->arm_readable();  // the byte is still unread
  loop.call_at(loop.now() + 5ms, [&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(readable, 2);
}

TEST(FdWatch, HangupIsNotAMereEndOfStream) {
  EventLoop loop;
  Ends ends;
  bool hung_up = false;
  auto watch = FdWatch::create(loop, ends.ours.get(), {.on_hangup = [&] {
                                 hung_up = true;
                                 loop.stop();
                               }});
  ASSERT_TRUE(watch.has_value());
  watch->arm_hangup();
  ::shutdown(ends.theirs.get(), SHUT_WR);
  loop.call_at(loop.now() + 5ms, [&] {
    EXPECT_FALSE(hung_up);
    ends.theirs.reset();
  });
  loop.run();
  EXPECT_TRUE(hung_up);
}

// With nothing armed the system would report it for ever; and whoever arms later must hear of it.
TEST(FdWatch, AHangupThatNobodyAwaitedIsToldLater) {
  for (const bool destroyed : {false, true}) {
    EventLoop loop;
    Ends ends;
    int told = 0;
    const auto tell = [&] {
      if (++told == 3) loop.stop();
    };
    auto watch = FdWatch::create(loop, ends.ours.get(),
                                 {.on_readable = tell, .on_writable = tell, .on_hangup = tell});
    ASSERT_TRUE(watch.has_value());
    ends.theirs.reset();
    int turns = 0;
    std::function<void()> count = [&] {
      if (++turns < 5) return loop.post(count);
      if (destroyed) {
        watch = FdWatch();
        return loop.stop();
      }
      watch->arm_readable();
      watch->arm_writable();
      watch->arm_hangup();
    };
    count();
    loop.run();
    EXPECT_EQ(told, destroyed ? 0 : 3);
  }
}

TEST(FdWatch, BytesThatNobodyReadsAreToldWhenTheyAreWanted) {
  EventLoop loop;
  Ends ends;
  int readable = 0;
  auto watch = FdWatch::create(loop, ends.ours.get(), {.on_readable = [&] {
                                 ++readable;
                                 loop.stop();
                               }});
  ASSERT_TRUE(watch.has_value());
  ASSERT_EQ(::write(ends.theirs.get(), "x", 1), 1);
  loop.call_at(loop.now() + 5ms, [&] { watch->arm_readable(); });  // long after they came
  loop.run();
  EXPECT_EQ(readable, 1);
}

// Each of two watches that are ready in one turn ends the other one.
TEST(FdWatch, MayEndAnotherThatIsReadyToo) {
  EventLoop loop;
  Ends first, second;
  std::array<std::optional<FdWatch>, 2> watches;
  int calls = 0;
  for (const int i : {0, 1}) {
    Ends& ends = i == 0 ? first : second;
    auto created = FdWatch::create(loop, ends.ours.get(), {.on_readable = [&, i] {
                                     ++calls;
                                     watches[static_cast<std::size_t>(1 - i)].reset();
                                   }});
    ASSERT_TRUE(created.has_value());
    watches[static_cast<std::size_t>(i)].emplace(std::move(*created));
    watches[static_cast<std::size_t>(i)]->arm_readable();
    ASSERT_EQ(::write(ends.theirs.get(), "x", 1), 1);
  }
  loop.call_at(loop.now() + 5ms, [&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(calls, 1);
}

// Work that is dropped with the loop may hold what, going, asks the loop for something.
TEST(EventLoop, DroppedWorkMayStillUseIt) {
  struct Last {
    EventLoop& loop;
    ~Last() {
      loop.post([] {});
      loop.cancel(loop.call_at(loop.now(), [] {}));
      loop.call_at(loop.now(), [] {});
    }
  };
  EventLoop loop;
  loop.post([last = std::make_shared<Last>(loop)] {});
  loop.call_at(loop.now() + 1h, [last = std::make_shared<Last>(loop)] {});
}

TEST(FdWatch, CanBeDestroyedInsideItsOwnCallback) {
  EventLoop loop;
  Ends ends;
  std::unique_ptr<FdWatch> watch;
  int calls = 0;
  const auto end_it = [&] {
    ++calls;
    watch.reset();
  };
  auto created =
      FdWatch::create(loop, ends.ours.get(), {.on_readable = end_it, .on_writable = end_it});
  ASSERT_TRUE(created.has_value());
  watch = std::make_unique<FdWatch>(std::move(*created));
  ASSERT_EQ(::write(ends.theirs.get(), "x", 1), 1);
  watch->arm_readable();
  watch->arm_writable();  // both are ready in one turn; for the second nobody is there any more
  loop.call_at(loop.now() + 5ms, [&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(calls, 1);
}

TEST(FdWatch, RefusesADescriptorThatCannotBeWatched) {
  EventLoop loop;
  EXPECT_FALSE(FdWatch::create(loop, -1, {}).has_value());
}

TEST(DeadlineTimer, LaterDeadlinesReplaceEarlierOnesAndSoDoEarlierOnes) {
  EventLoop loop;
  const Time started = loop.now();
  int due = 0;
  DeadlineTimer timer(loop, [&] {
    ++due;
    EXPECT_GE(loop.now() - started, 15ms);
    loop.stop();
  });
  timer.set(started + 5ms);
  timer.set(started + 10s);
  timer.set(started + 15ms);
  loop.run();
  EXPECT_EQ(due, 1);
  timer.set(loop.now() + 1ms);
  timer.set(std::nullopt);
  loop.call_at(loop.now() + 5ms, [&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(due, 1);
}

}  // namespace
}  // namespace pd::net
