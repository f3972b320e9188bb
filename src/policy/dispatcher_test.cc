#include "policy/dispatcher.h"

#include <algorithm>
#include <map>

#include "policy/dispatcher_fixture.h"

namespace pd::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr WorkerId kP0{1}, kP1{2}, kD0{11}, kD1{12};

class DispatcherTest : public DispatcherFixture {
 protected:
  DispatcherTest() {
    use({}, {{kP0, Role::kPrefill, 1, 0, true},
             {kP1, Role::kPrefill, 1, 0, true},
             {kD0, Role::kDecode, 0, 4, true},
             {kD1, Role::kDecode, 0, 4, true}});
  }
};

TEST_F(DispatcherTest, SpreadsOverIdleInstancesAndWaitsWhenAllAreFull) {
  for (int i = 0; i < 3; ++i) submit(static_cast<std::uint64_t>(i));
  const auto sent = polled<SendPrefill>();
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_NE(sent[0].worker, sent[1].worker);
  EXPECT_EQ(dispatcher_.waiting(), 1u);
}

TEST_F(DispatcherTest, ARejectionMovesOnAtOnceAndBlocksThatInstanceUntilTheHint) {
  submit(1);
  const auto first = polled<SendPrefill>();
  ASSERT_EQ(first.size(), 1u);
  dispatcher_.on_rejected(first[0].request, first[0].leg, milliseconds(30), now_);
  const auto second = polled<SendPrefill>();
  ASSERT_EQ(second.size(), 1u);
  EXPECT_NE(second[0].worker, first[0].worker);
  dispatcher_.on_rejected(second[0].request, second[0].leg, milliseconds(20), now_);
  EXPECT_TRUE(polled<SendPrefill>().empty()) << "both are busy: no blind polling";
  EXPECT_EQ(dispatcher_.next_deadline(), now_ + milliseconds(20));
  now_ += milliseconds(20);
  const auto third = polled<SendPrefill>();
  ASSERT_EQ(third.size(), 1u);
  EXPECT_EQ(third[0].worker, second[0].worker);
}

TEST_F(DispatcherTest, AFreedPlaceWakesTheEarliestDeadlineFirst) {
  submit(1);
  submit(2);
  const auto running = polled<SendPrefill>();
  submit(3, seconds(9));
  submit(4, seconds(5));
  EXPECT_TRUE(polled<SendPrefill>().empty());
  dispatcher_.on_accepted(running[0].request, running[0].leg, now_);
  EXPECT_TRUE(dispatcher_.on_tokens(running[0].request, running[0].leg, 0, 1, true, now_));
  const auto next = polled<SendPrefill>();
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(next[0].request, (RequestId{0, 4}));
  EXPECT_EQ(next[0].worker, running[0].worker);
}

class DecodePlacementTest : public DispatcherTest {
 protected:
  DecodePlacementTest() {
    dispatcher_.on_topology({{kP0, Role::kPrefill, 8, 0, true},
                             {kD0, Role::kDecode, 0, 16, true},
                             {kD1, Role::kDecode, 0, 16, true}},
                            now_);
  }
  void submit_sized(std::uint64_t id, std::int64_t prompt) {
    dispatcher_.submit({.request = {0, id},
                        .deadlines = {now_ + seconds(10), now_ + seconds(100)},
                        .prompt = Tokens(prompt),
                        .output_max = Tokens(100)},
                       now_);
    for (const SendPrefill& leg : polled<SendPrefill>()) prefill(leg);
  }
  void state(WorkerId worker, std::int64_t requests, std::int64_t blocks) {
    dispatcher_.on_room(worker,
                        {.requests = requests,
                         .places = 16 - requests,
                         .free = BlockCount(blocks),
                         .spare = BlockCount(blocks),
                         .block_tokens = Tokens(16),
                         .growth = Tokens(16)},
                        now_);
  }
};

TEST_F(DecodePlacementTest, GoesWhereItFitsAndARejectionMovesOnWithTheKvAtP) {
  state(kD0, 1, 4);
  state(kD1, 9, 40);
  submit_sized(1, 200);
  const auto first = polled<SendDecode>();
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].worker, kD1);
  // Another gateway was there before; and where it does fit, something has ended.
  state(kD1, 10, 3);
  state(kD0, 0, 60);
  dispatcher_.on_rejected(first[0].request, first[0].leg, milliseconds(50), now_);
  const auto actions = dispatcher_.poll(now_);
  ASSERT_EQ(actions.size(), 1u) << "no new prefill";
  EXPECT_EQ(std::get<SendDecode>(actions[0]).worker, kD0);
  const auto* life = dispatcher_.find({0, 1});
  EXPECT_EQ(life->crashes() + life->restarts(), 0) << "busy is not broken";
  EXPECT_EQ(dispatcher_.record({0, 1}, now_)->rejections, 1);
}

TEST_F(DecodePlacementTest, ABurstIsSpreadByWhatEachCanHold) {
  state(kD0, 1, 30);  // two of 12 blocks
  state(kD1, 1, 60);  // four
  std::map<WorkerId, int> sent;
  for (std::uint64_t id = 1; id <= 8; ++id) {
    submit_sized(id, 176);  // 176 + 16: 12 blocks
    for (const SendDecode& leg : polled<SendDecode>()) ++sent[leg.worker];
  }
  EXPECT_EQ(sent[kD0], 2);
  EXPECT_EQ(sent[kD1], 4);
  EXPECT_EQ(dispatcher_.waiting(), 2u);
  EXPECT_EQ(dispatcher_.next_deadline(), now_ + milliseconds(250)) << "then they may be asked";
}

TEST_F(DecodePlacementTest, SmallOnesDoNotKeepALargeOneOut) {
  state(kD0, 4, 5);
  state(kD1, 4, 8);
  submit_sized(1, 300);
  EXPECT_TRUE(polled<SendDecode>().empty());
  submit_sized(2, 30);
  const auto small = polled<SendDecode>();
  ASSERT_EQ(small.size(), 1u);
  EXPECT_EQ(small[0].worker, kD0) << "D1, which has more room, is the large one's";
  state(kD1, 1, 25);
  dispatcher_.on_heard(kD1, {}, now_);
  const auto large = polled<SendDecode>();
  ASSERT_EQ(large.size(), 1u);
  EXPECT_EQ(large[0].worker, kD1);
}

// A request that may outgrow a whole D would push all others out of it, and fail then.
TEST_F(DecodePlacementTest, WhatADCanNeverHoldGoesToALargerOne) {
  const auto large = [&](std::int64_t d1) {
    dispatcher_.on_topology({{kP0, Role::kPrefill, 8, 0, true},
                             {kD0, Role::kDecode, 0, 8, true, Tokens(320)},
                             {kD1, Role::kDecode, 0, 8, true, Tokens(d1)}},
                            now_);
    state(kD0, 0, 20);
    state(kD1, 4, 20);
  };
  large(640);
  submit_sized(1, 221);  // and 100
  const auto decode = polled<SendDecode>();
  ASSERT_EQ(decode.size(), 1u);
  EXPECT_EQ(decode[0].worker, kD1);
  submit_sized(2, 220);
  EXPECT_EQ(polled<SendDecode>().at(0).worker, kD0) << "the one with fewer requests";
  large(320);
  state(kD0, 0, 60);
  submit_sized(3, 221);
  EXPECT_EQ(polled<SendDecode>().size(), 1u) << "who came before that was known still gets one";
}

TEST_F(DispatcherTest, ARecordSaysWhetherAnInstanceHasTakenIt) {
  submit(1);
  const auto first = polled<SendPrefill>();
  ASSERT_EQ(first.size(), 1u);
  EXPECT_FALSE(dispatcher_.record({0, 1}, now_)->taken) << "it has only been asked";
  dispatcher_.on_rejected(first[0].request, first[0].leg, milliseconds(50), now_);
  const auto second = polled<SendPrefill>();
  ASSERT_EQ(second.size(), 1u);
  EXPECT_FALSE(dispatcher_.record({0, 1}, now_)->taken);
  dispatcher_.on_accepted(second[0].request, second[0].leg, now_);
  EXPECT_TRUE(dispatcher_.record({0, 1}, now_)->taken);
  dispatcher_.cancel({0, 1}, now_);
  const auto ended = polled<Finish>();
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_TRUE(ended[0].record.taken) << "what becomes of it afterwards does not matter";
}

class MixedGroupTest : public DispatcherTest {
 protected:
  static constexpr WorkerId kBoth{21};
  void use(WholeMode mode) {
    dispatcher_ = Dispatcher({.whole = {mode, Tokens(100)}});
    dispatcher_.on_topology({{kP0, Role::kPrefill, 2, 0, true}, {kBoth, Role::kBoth, 2, 8, true}},
                            now_);
  }
  SendPrefill submit_sized(std::uint64_t id, std::int64_t prompt) {
    dispatcher_.submit({.request = {0, id},
                        .deadlines = {now_ + seconds(10), now_ + seconds(100)},
                        .prompt = Tokens(prompt),
                        .output_max = Tokens(100)},
                       now_);
    return polled<SendPrefill>().at(0);
  }
};

TEST_F(MixedGroupTest, ShortPromptsAreServedWholeLongOnesApart) {
  use(WholeMode::kThreshold);
  for (const std::int64_t prompt : {100, 101}) {
    const SendPrefill leg = submit_sized(static_cast<std::uint64_t>(prompt), prompt);
    EXPECT_EQ(leg.worker, prompt == 100 ? kBoth : kP0);
    prefill(leg);
    const auto decode = polled<SendDecode>();
    ASSERT_EQ(decode.size(), 1u);
    EXPECT_EQ(decode[0].worker, kBoth) << "it decodes for P, too";
  }
}

TEST_F(MixedGroupTest, OffLeavesTheAggregatedOneToDecode) {
  use(WholeMode::kOff);
  EXPECT_EQ(submit_sized(1, 1).worker, kP0);
  EXPECT_EQ(submit_sized(2, 1).worker, kP0);
  dispatcher_.submit({.request = {0, 3},
                      .deadlines = {now_ + seconds(10), now_ + seconds(100)},
                      .prompt = Tokens(1)},
                     now_);
  EXPECT_TRUE(polled<SendPrefill>().empty()) << "P is full";
}

TEST_F(MixedGroupTest, OffHoldsForTheHedgeOfASlowPrefillToo) {
  for (const auto mode : {WholeMode::kOff, WholeMode::kThreshold}) {
    DispatcherFixture::use({.whole = {mode, Tokens(100)}, .hedge_after = milliseconds(500)},
                           {{kP0, Role::kPrefill, 2, 0, true}, {kBoth, Role::kBoth, 2, 8, true}});
    EXPECT_EQ(submit_sized(1, 101).worker, kP0);
    now_ += milliseconds(600);
    EXPECT_EQ(polled<SendPrefill>().size(), mode == WholeMode::kOff ? 0u : 1u);
  }
}

TEST_F(MixedGroupTest, WhereTheMeasuredTimeIsLess) {
  use(WholeMode::kAuto);
  for (int i = 0; i < 50; ++i)
    dispatcher_.on_prefill_measured(Tokens(10 + 10 * i), std::chrono::microseconds(100) * 10 * i);
  const SendPrefill first = submit_sized(1, 400);
  EXPECT_EQ(first.worker, kBoth) << "nobody is disturbed, a handoff is saved";
  EXPECT_EQ(submit_sized(2, 10).worker, kP0) << "40 ms of another's prefill are before it";
  prefill(first);
  EXPECT_EQ(polled<SendDecode>().size(), 1u);
  EXPECT_EQ(submit_sized(3, 400).worker, kP0) << "a stream would wait 40 ms for it";
}

TEST_F(MixedGroupTest, RatherTheOtherKindThanWaiting) {
  use(WholeMode::kThreshold);
  for (std::uint64_t id = 1; id <= 2; ++id) EXPECT_EQ(submit_sized(id, 10).worker, kBoth);
  EXPECT_EQ(submit_sized(3, 10).worker, kP0);
}

TEST_F(DispatcherTest, WaitingPastTheTtftLimitEndsAsBusy) {
  submit(1);
  submit(2);
  polled<SendPrefill>();
  submit(3, milliseconds(500));
  EXPECT_TRUE(polled<SendPrefill>().empty());
  EXPECT_LE(*dispatcher_.next_deadline(), now_ + milliseconds(500));
  now_ += milliseconds(500);
  const auto ended = polled<Finish>();
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].end.why, RequestEnd::Why::kBusy);
}

// Choices of one answer: the first one's client has been served, and the others are not "busy".
TEST_F(DispatcherTest, WhoseAnswerHasBegunWaitsBeyondTheTtftLimit) {
  for (std::uint64_t id = 1; id <= 4; ++id) submit(id, milliseconds(500), 100);
  const auto sent = polled<SendPrefill>();
  ASSERT_EQ(sent.size(), 2u);
  for (const auto& leg : sent) dispatcher_.on_accepted(leg.request, leg.leg, now_);
  dispatcher_.on_answer_begun({0, 3});
  now_ += seconds(5);
  const auto ended = polled<Finish>();
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].request, (RequestId{0, 4}));
  for (const auto& leg : sent) {
    EXPECT_TRUE(dispatcher_.on_tokens(leg.request, leg.leg, 0, 1, true, now_));
  }
  const auto next = polled<SendPrefill>();
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(next[0].request, (RequestId{0, 3}));
  now_ += seconds(1000);
  EXPECT_EQ(polled<Finish>().size(), 1u) << "the whole request's deadline holds";
}

// G9: a place that comes too late for the prefill is another's, who still has the time.
TEST_F(DispatcherTest, NobodyWaitsIntoATimeThatIsTooShortForThePrefill) {
  const Duration prefill_time = milliseconds(100);
  std::uint64_t id = 0;
  for (; id < 100; ++id) {
    submit(id, seconds(2));
    const auto sent = polled<SendPrefill>();
    ASSERT_EQ(sent.size(), 1u);
    now_ += prefill_time;
    dispatcher_.on_accepted(sent[0].request, sent[0].leg, now_);
    EXPECT_TRUE(dispatcher_.on_tokens(sent[0].request, sent[0].leg, 0, 1, true, now_));
    polled<Finish>();
  }
  submit(id, seconds(2));
  submit(id + 1, seconds(2));
  EXPECT_EQ(polled<SendPrefill>().size(), 2u);
  submit(id + 2, seconds(2));
  submit(id + 3, milliseconds(50));
  EXPECT_TRUE(polled<Finish>().empty()) << "a limit below what is usual is still tried";
  now_ += milliseconds(30);
  auto ended = polled<Finish>();
  ASSERT_EQ(ended.size(), 1u) << "half of its time is over";
  EXPECT_EQ(ended[0].request, (RequestId{0, id + 3}));
  now_ += seconds(2) - prefill_time - milliseconds(60);
  EXPECT_TRUE(polled<Finish>().empty()) << "there is time enough";
  now_ += milliseconds(29);
  ended = polled<Finish>();
  ASSERT_EQ(ended.size(), 1u) << "there is not";
  EXPECT_EQ(ended[0].end.why, RequestEnd::Why::kBusy);
}

TEST_F(DispatcherTest, NoWorkerForLongIsToldSo) {
  dispatcher_.on_topology({}, now_);
  submit(1, seconds(60));
  EXPECT_TRUE(polled<Finish>().empty());
  now_ = *dispatcher_.next_deadline();
  const auto ended = polled<Finish>();
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].end.why, RequestEnd::Why::kNoWorker);
}

// Answers every leg with a fault of its worker until `until`; the end, if one comes.
std::optional<RequestEnd> refuse_all(Dispatcher& dispatcher, Time& now, Time until, int& asked) {
  while (now < until) {
    const auto actions = dispatcher.poll(now);
    for (const auto& action : actions) {
      if (const auto* finish = std::get_if<Finish>(&action)) return finish->end;
      if (const auto* leg = std::get_if<SendPrefill>(&action)) {
        ++asked;
        dispatcher.on_fault(leg->request, leg->leg, {ErrorCode::kUnavailable, "refused"},
                            Blame::kBroke, now);
      }
    }
    if (actions.empty()) now = std::max(now, *dispatcher.next_deadline());
  }
  return std::nullopt;
}

TEST_F(DispatcherTest, AGroupThatNobodyAnswersForIsSaidToHaveNoWorker) {
  submit(1, seconds(300));
  const Time start = now_;
  int asked = 0;
  const auto end = refuse_all(dispatcher_, now_, start + seconds(60), asked);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->why, RequestEnd::Why::kNoWorker);
  EXPECT_EQ(now_ - start, DispatcherOptions{}.empty_patience);
  EXPECT_GT(asked, 8);
  EXPECT_LT(asked, 40) << "asked ever less often";
}

// G9: 503 is for when nobody is there; that one of them is gone does not make the others' "busy"
// it.
TEST_F(DispatcherTest, OneDeadInstanceAmongBusyOnesIsNoLackOfWorkers) {
  dispatcher_.on_unreachable(kP0, now_);
  submit(1, seconds(2));
  const auto sent = polled<SendPrefill>();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].worker, kP1);
  dispatcher_.on_rejected(sent[0].request, sent[0].leg, seconds(10), now_);
  now_ += seconds(2);
  dispatcher_.on_unreachable(kP0, now_);  // tried again, in vain
  const auto ended = polled<Finish>();
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].end.why, RequestEnd::Why::kBusy);
}

TEST_F(DispatcherTest, WhoCannotBeReachedIsAskedWhenItCanBeAgain) {
  dispatcher_.on_unreachable(kP0, now_);
  dispatcher_.on_unreachable(kP1, now_);
  submit(1, seconds(2));
  EXPECT_TRUE(polled<SendPrefill>().empty());
  dispatcher_.on_reachable(kP1);
  const auto sent = polled<SendPrefill>();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].worker, kP1);
}

// Not its hint, but its word that a place is free.
TEST_F(DispatcherTest, WhoSaysThatAPlaceIsFreeIsAskedAtOnce) {
  submit(1, seconds(60));
  for (int i = 0; i < 2; ++i) {
    const auto sent = polled<SendPrefill>();
    ASSERT_EQ(sent.size(), 1u);
    dispatcher_.on_rejected(sent[0].request, sent[0].leg, seconds(2), now_);
  }
  now_ += milliseconds(1);
  EXPECT_TRUE(polled<SendPrefill>().empty());
  dispatcher_.on_vacant(kP1);
  const auto sent = polled<SendPrefill>();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].worker, kP1);
  // Somebody else was faster: it waits for the next word, or the hint.
  dispatcher_.on_rejected(sent[0].request, sent[0].leg, seconds(2), now_);
  EXPECT_TRUE(polled<SendPrefill>().empty());
}

TEST_F(DispatcherTest, AnOldSilenceIsNotHeldAgainstALaterRequest) {
  submit(1);
  int asked = 0;
  EXPECT_FALSE(refuse_all(dispatcher_, now_, now_ + seconds(1), asked));
  dispatcher_.cancel({0, 1}, now_);
  EXPECT_EQ(polled<Finish>().size(), 1u);
  now_ += seconds(3600);
  submit(2);
  EXPECT_TRUE(polled<Finish>().empty());
  now_ += seconds(1);
  EXPECT_TRUE(polled<Finish>().empty());
  EXPECT_EQ(dispatcher_.in_flight(), 1u);
}

TEST_F(DispatcherTest, AMemberThatLeavesIsAFaultOfItsLegs) {
  submit(1);
  const auto p = polled<SendPrefill>();
  prefill(p[0]);
  const auto d = polled<SendDecode>();
  ASSERT_EQ(d.size(), 1u);
  dispatcher_.on_accepted(d[0].request, d[0].leg, now_);
  dispatcher_.on_joined(d[0].request, d[0].leg, now_);
  std::vector<Member> rest{{kP0, Role::kPrefill, 1, 0, true}, {kP1, Role::kPrefill, 1, 0, true}};
  rest.push_back({d[0].worker == kD0 ? kD1 : kD0, Role::kDecode, 0, 4, true});
  dispatcher_.on_topology(rest, now_);
  const auto again = polled<SendPrefill>();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(dispatcher_.find(again[0].request)->emitted(), 1u);
}

TEST_F(DispatcherTest, ASilentInstanceLosesItsLegsWithinThreeSecondsAndComesBackWhenItAnswers) {
  submit(1);
  const auto p = polled<SendPrefill>();
  dispatcher_.on_accepted(p[0].request, p[0].leg, now_);
  const Time start = now_;
  std::vector<SendPrefill> moved;
  while (moved.empty() && now_ < start + seconds(10)) {
    now_ = *dispatcher_.next_deadline();
    moved = polled<SendPrefill>();
  }
  ASSERT_EQ(moved.size(), 1u);
  EXPECT_NE(moved[0].worker, p[0].worker);
  EXPECT_LE(now_ - start, seconds(3));
  EXPECT_EQ(dispatcher_.silent(), 1);
  // Silent: not asked although it has a place. Then it answers.
  submit(2);
  EXPECT_TRUE(polled<SendPrefill>().empty());
  dispatcher_.on_heard(p[0].worker, {}, now_);
  EXPECT_EQ(polled<SendPrefill>().size(), 1u);
  EXPECT_EQ(dispatcher_.silent(), 0);
}

TEST_F(DispatcherTest, OneAnswerWithoutTheLeaseProvesNothingTwoDo) {
  submit(1);
  const auto p = polled<SendPrefill>();
  dispatcher_.on_accepted(p[0].request, p[0].leg, now_);
  dispatcher_.on_heard(p[0].worker, {{p[0].request, p[0].leg}}, now_);
  EXPECT_TRUE(polled<SendPrefill>().empty());
  now_ += milliseconds(500);
  dispatcher_.on_heard(p[0].worker, {{p[0].request, p[0].leg}}, now_);
  EXPECT_EQ(polled<SendPrefill>().size(), 1u);
}

TEST_F(DispatcherTest, AnAggregatedInstanceDecodesWhatItPrefilled) {
  dispatcher_.on_topology({{kP0, Role::kBoth, 4, 4, true}, {kP1, Role::kBoth, 4, 4, true}}, now_);
  submit(1);
  submit(2);
  for (const auto& p : polled<SendPrefill>()) {
    prefill(p);
    const auto d = polled<SendDecode>();
    ASSERT_EQ(d.size(), 1u);
    EXPECT_EQ(d[0].worker, p.worker);
  }
}

TEST_F(DispatcherTest, CancelEndsBothLegs) {
  submit(1);
  const auto p = polled<SendPrefill>();
  prefill(p[0]);
  const auto d = polled<SendDecode>();
  dispatcher_.cancel(p[0].request, now_);
  EXPECT_EQ(polled<Cancel>().size(), 2u);
  EXPECT_EQ(dispatcher_.in_flight(), 0u);
}

TEST_F(DispatcherTest, TheAbsoluteDeadlineEndsARunningRequest) {
  submit(1);
  const auto p = polled<SendPrefill>();
  prefill(p[0]);
  now_ += seconds(1000);
  bool ended = false;
  for (const auto& finish : polled<Finish>()) ended |= finish.end.why == RequestEnd::Why::kDeadline;
  EXPECT_TRUE(ended);
}

}  // namespace
}  // namespace pd::policy
