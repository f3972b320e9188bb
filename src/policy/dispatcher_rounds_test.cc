// One gateway looking for a place among P's that reject: how often it asks, and that it finds one.
#include <functional>
#include <map>

#include "base/rng.h"
#include "policy/dispatcher_fixture.h"

namespace pd::policy {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

WorkerId worker_of(int i) { return WorkerId(static_cast<std::uint64_t>(i + 1)); }

// P's that answer after a round trip, and the dispatcher, in virtual time.
class RoundsTest : public DispatcherFixture {
 protected:
  struct Answer {
    bool accepts = false;
    Duration hint{};
  };
  using Ask = std::function<Answer(WorkerId)>;

  void use_prefills(int count, int places, const DispatcherOptions& options = {}) {
    std::vector<Member> members{{WorkerId(1000), Role::kDecode, 0, 10000, true}};
    for (int i = 0; i < count; ++i)
      members.push_back({worker_of(i), Role::kPrefill, places, 0, true});
    use(options, members);
    asked_.clear();
    planned_.clear();
    accepted_ = 0;
  }
  // Until `until`, or so many were accepted.
  void run(Time until, int accepted_max, const Ask& ask, const std::function<Duration()>& trip) {
    while (true) {
      for (const auto& action : dispatcher_.poll(now_)) {
        if (const auto* renew = std::get_if<Renew>(&action))
          dispatcher_.on_heard(renew->worker, {}, now_);
        const auto* leg = std::get_if<SendPrefill>(&action);
        if (leg == nullptr) continue;
        ++asked_[leg->worker];
        planned_.emplace(now_ + trip(), *leg);
      }
      if (accepted_ >= accepted_max) return;
      auto next = dispatcher_.next_deadline();
      if (!planned_.empty() && (!next || planned_.begin()->first < *next))
        next = planned_.begin()->first;
      if (!next || *next > until) break;
      now_ = std::max(now_, *next);
      while (!planned_.empty() && planned_.begin()->first <= now_) {
        const SendPrefill leg = planned_.extract(planned_.begin()).mapped();
        const Answer answer = ask(leg.worker);
        if (answer.accepts) {
          ++accepted_;
          dispatcher_.on_accepted(leg.request, leg.leg, now_);
        } else {
          dispatcher_.on_rejected(leg.request, leg.leg, answer.hint, now_);
        }
      }
    }
    now_ = until;
  }
  int asks() const {
    int sum = 0;
    for (const auto& [worker, count] : asked_) sum += count;
    return sum;
  }

  std::map<WorkerId, int> asked_;
  std::multimap<Time, SendPrefill> planned_;
  int accepted_ = 0;
};

TEST_F(RoundsTest, TheIdleOneIsFoundWithOneQuestionForEach) {
  Rng rng(7);
  for (const int count : {2, 3, 8, 32, 64}) {
    for (int idle = 0; idle < count; ++idle) {
      use_prefills(count, 4, {.seed = rng.next()});
      const std::vector<std::uint64_t> prefix(rng.below(2), rng.next());
      submit(1, seconds(300), 1, prefix);
      const Duration trip_max = milliseconds(5);
      const Time start = now_;
      run(
          now_ + seconds(100), 1,
          [&](WorkerId worker) -> Answer {
            return {worker == worker_of(idle), microseconds(rng.below(20000))};
          },
          [&] { return microseconds(100 + rng.below(4900)); });
      EXPECT_EQ(accepted_, 1) << idle << " of " << count;
      EXPECT_LE(asks(), count) << idle << " of " << count;
      EXPECT_LE(now_ - start, count * trip_max) << idle << " of " << count;
    }
  }
}

// Its own legs run there, and those without any are others'.
TEST_F(RoundsTest, TheOneWithMoreOpenLegsIsFoundToo) {
  use_prefills(16, 4);
  for (std::uint64_t id = 1; id <= 2; ++id) {
    submit(id);
    run(
        now_ + seconds(1), static_cast<int>(id),
        [](WorkerId worker) -> Answer { return {worker == worker_of(5), milliseconds(1)}; },
        [] { return milliseconds(1); });
    EXPECT_LE(asks(), 16 * static_cast<int>(id));
    EXPECT_EQ(accepted_, static_cast<int>(id));
  }
}

// Whoever waits: a P is asked once for each hint that it gives.
TEST_F(RoundsTest, ManyThatWaitAskNoMoreThanOne) {
  for (const int waiting : {1, 100}) {
    use_prefills(16, 4);
    for (int i = 0; i < waiting; ++i) submit(static_cast<std::uint64_t>(i), seconds(300));
    run(
        now_ + seconds(10), 1, [](WorkerId) -> Answer { return {false, milliseconds(50)}; },
        [] { return milliseconds(1); });
    for (const auto& [worker, count] : asked_)
      EXPECT_LE(count, 10000 / 50 + 4) << waiting << " waiting";
    // And a place that becomes free is found at once by one of them.
    const Time start = now_;
    run(
        now_ + seconds(10), 1,
        [](WorkerId worker) -> Answer { return {worker == worker_of(9), milliseconds(50)}; },
        [] { return milliseconds(1); });
    EXPECT_EQ(accepted_, 1);
    EXPECT_LE(now_ - start, milliseconds(50 + 2));
  }
}

// A P says honestly when it is free again, and then takes another gateway's.
TEST_F(RoundsTest, ALongHintIsLookedIntoOnceAndBelievedThen) {
  for (const auto& [hint_s, most] : {std::pair{1, 2 * 16 + 4}, std::pair{8, 10}}) {
    use_prefills(1, 4);
    submit(1, seconds(300));
    const Time start = now_;
    run(
        start + seconds(16), 1,
        [&](WorkerId) -> Answer {
          const Duration passed = (now_ - start) % seconds(hint_s);
          return {false, seconds(hint_s) - passed};
        },
        [] { return milliseconds(1); });
    EXPECT_LE(asks(), most) << "hints of " << hint_s << " s";
  }
}

TEST_F(RoundsTest, APlaceThatACancelFreesIsFoundAtHalfOfTheHint) {
  use_prefills(1, 4);
  submit(1, seconds(300));
  const Time start = now_;
  run(
      start + seconds(16), 1,
      [&](WorkerId) -> Answer { return {now_ - start > seconds(1), seconds(4)}; },
      [] { return milliseconds(1); });
  EXPECT_EQ(accepted_, 1);
  EXPECT_LE(now_ - start, seconds(2) + milliseconds(5));
}

}  // namespace
}  // namespace pd::policy
