// Whether a client that is told when to come again is told the truth.
#include <algorithm>
#include <cmath>
#include <deque>
#include <functional>
#include <map>

#include "base/rng.h"
#include "policy/dispatcher_fixture.h"

namespace pd::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct Load {
  int prefills = 4, slots = 4;
  Duration hold = milliseconds(400);
  Duration limit = seconds(3);  // TTFT
  int burst = 400;
  Duration burst_within = milliseconds(100);
};

// A group of P's that hold each prompt for a while, and clients, in virtual time.
class Service {
 public:
  Service(const Load& load, std::uint64_t seed)
      : load_(load), rng_(seed), dispatcher_({.seed = seed}) {
    std::vector<Member> members{{WorkerId(1000), Role::kDecode, 0, 10000, true}};
    for (int i = 1; i <= load.prefills; ++i) {
      members.push_back(
          {WorkerId(static_cast<std::uint64_t>(i)), Role::kPrefill, load.slots, 0, true});
    }
    dispatcher_.on_topology(members, now_);
  }
  Time now() const { return now_; }
  void at(Time when, std::function<void()> what) { planned_.emplace(when, std::move(what)); }

  // `ended`: whether it was served, and for how long it is told to stay away if not.
  using Ended = std::function<void(bool served, Duration told)>;
  void ask(Ended ended) {
    const RequestId id{0, next_id_++};
    ended_[id] = std::move(ended);
    dispatcher_.submit({.request = id,
                        .deadlines = {now_ + load_.limit, now_ + seconds(10000)},
                        .prompt = Tokens(10)},
                       now_);
  }
  void run() {
    while (true) {
      pump();
      auto next = dispatcher_.next_deadline();
      if (!planned_.empty() && (!next || planned_.begin()->first < *next))
        next = planned_.begin()->first;
      if (!next || (ended_.empty() && planned_.empty())) return;
      now_ = std::max(now_, *next);
      while (!planned_.empty() && planned_.begin()->first <= now_)
        planned_.extract(planned_.begin()).mapped()();
    }
  }

 private:
  void pump() {
    for (const auto& action : dispatcher_.poll(now_)) {
      if (const auto* renew = std::get_if<Renew>(&action))
        dispatcher_.on_heard(renew->worker, {}, now_);
      if (const auto* sent = std::get_if<SendPrefill>(&action)) start(*sent);
      if (const auto* finish = std::get_if<Finish>(&action)) {
        if (finish->end.why == RequestEnd::Why::kCompleted) continue;
        const auto ended = ended_.extract(finish->request).mapped();
        // As the gateway says it: whole seconds.
        const double told = std::ceil(to_seconds(dispatcher_.expected_wait(now_)));
        ended(false, seconds(std::clamp(static_cast<int>(told), 1, 60)));
      }
    }
  }
  // This gateway has the P's to itself: where it sends to, there is a slot.
  void start(const SendPrefill& leg) {
    dispatcher_.on_accepted(leg.request, leg.leg, now_);
    ended_.extract(leg.request).mapped()(true, {});
    const double share = 0.8 + 0.4 * rng_.unit();
    const auto took = std::chrono::duration_cast<Duration>(load_.hold * share);
    at(now_ + took, [this, leg] { dispatcher_.on_tokens(leg.request, leg.leg, 0, 1, true, now_); });
  }

  Load load_;
  Rng rng_;
  Time now_{seconds(1000)};
  Dispatcher dispatcher_;
  std::uint64_t next_id_ = 1;
  std::map<RequestId, Ended> ended_;
  std::multimap<Time, std::function<void()>> planned_;
};

// One that is told to come again does, and another one does not wait and comes at once.
struct Told {
  Duration told, obeyed, at_once;  // until served
};

std::vector<Told> rejected_of(const Load& load, int idle_requests, std::uint64_t seed) {
  Service service(load, seed);
  Rng rng(seed);
  for (int i = 0; i < idle_requests; ++i)
    service.at(service.now() + i * seconds(20), [&] { service.ask([](bool, Duration) {}); });
  const Time start = service.now() + idle_requests * seconds(20);
  std::deque<Told> out;
  // Comes again when told to, until it is served.
  std::function<void(Time, Duration, Duration*)> obey = [&](Time since, Duration told,
                                                            Duration* took) {
    service.at(service.now() + told, [&, since, took] {
      service.ask([&, since, took](bool served, Duration again) {
        if (!served) return obey(since, again, took);
        *took = service.now() - since;
      });
    });
  };
  int rejected = 0;
  for (int i = 0; i < load.burst; ++i) {
    const Time when =
        start + Duration(rng.below(static_cast<std::uint64_t>(load.burst_within.count())));
    service.at(when, [&] {
      service.ask([&](bool served, Duration told) {
        if (served || rejected++ % 50 != 0) return;
        Told& one = out.emplace_back(Told{told, {}, {}});
        obey(service.now(), told, &one.obeyed);
        obey(service.now(), Duration(0), &one.at_once);
      });
    });
  }
  service.run();
  return {out.begin(), out.end()};
}

// `lasting`: others keep coming, and it is luck whether one of them is served instead.
void expect_honest(const Load& load, int idle_requests, bool lasting = false) {
  std::size_t seen = 0;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    for (const Told& one : rejected_of(load, idle_requests, seed)) {
      ++seen;
      if (!lasting) {
        EXPECT_GE(one.told, 0.3 * one.obeyed) << to_seconds(one.obeyed) << " s, seed " << seed;
      }
      // Whole seconds: nobody can be told less than one.
      EXPECT_LE(one.told, std::max<Duration>(3 * one.at_once, seconds(1)))
          << to_seconds(one.told) << " s told, " << to_seconds(one.at_once) << " s, seed " << seed;
    }
  }
  EXPECT_GE(seen, 5u) << "nobody was rejected";
}

TEST(ExpectedWait, OfABurstOutOfTheBlueIsHonest) { expect_honest({}, 0); }

// Hardly anything becomes free in such a phase, because hardly anything is asked for.
TEST(ExpectedWait, AnIdlePhaseBeforeABurstIsNoSlowness) {
  expect_honest({.hold = milliseconds(100), .burst = 1200}, 60);
  expect_honest({.prefills = 1, .slots = 2, .hold = milliseconds(500), .burst = 200}, 60);
}

TEST(ExpectedWait, UnderLastingOverloadIsNotExaggerated) {
  expect_honest({.burst = 4000, .burst_within = seconds(50)}, 10, true);
  expect_honest({.limit = seconds(20), .burst = 8000, .burst_within = seconds(100)}, 10, true);
}

TEST(ExpectedWait, WhereOnePromptTakesLong) {
  expect_honest({.prefills = 1,
                 .slots = 1,
                 .hold = seconds(8),
                 .limit = seconds(20),
                 .burst = 60,
                 .burst_within = seconds(60)},
                3);
}

TEST(ExpectedWait, OfAFirstPromptThatLastsIsNotAMoment) {
  const Duration hold = seconds(20);
  Service service({.prefills = 1, .slots = 1, .hold = hold, .limit = seconds(1)}, 1);
  const Time start = service.now();
  std::vector<Duration> told;
  service.at(start, [&] { service.ask([](bool, Duration) {}); });
  for (int i = 1; i < 6; ++i) {
    service.at(start + seconds(i), [&] {
      service.ask([&](bool served, Duration wait) {
        EXPECT_FALSE(served);
        told.push_back(wait);
      });
    });
  }
  service.run();
  ASSERT_EQ(told.size(), 5u);
  for (std::size_t i = 0; i < told.size(); ++i) EXPECT_GE(told[i], seconds(1 + i)) << i;
}

// The places are others': only the P's themselves know when one of them is free.
class ForeignPlacesTest : public DispatcherFixture {};

TEST_F(ForeignPlacesTest, TheWaitIsWhatThePsHaveSaid) {
  use({}, {{WorkerId(1), Role::kPrefill, 1, 0, true}, {WorkerId(2), Role::kPrefill, 1, 0, true}});
  submit(1, seconds(60));
  for (const Duration hint : {seconds(4), seconds(3)}) {
    const auto sent = polled<SendPrefill>();
    ASSERT_EQ(sent.size(), 1u);
    dispatcher_.on_rejected(sent[0].request, sent[0].leg, hint, now_);
  }
  dispatcher_.poll(now_);
  EXPECT_EQ(dispatcher_.expected_wait(now_), seconds(3));
}

}  // namespace
}  // namespace pd::policy
