// G15: P does not start what no D takes in time.
#include "policy/dispatcher_fixture.h"

namespace pd::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr WorkerId kP{1}, kD{11}, kD1{12};

class HoldBackTest : public DispatcherFixture {
 protected:
  void use_places(int places) {
    use({}, {{kP, Role::kPrefill, 8, 0, true}, {kD, Role::kDecode, 0, places, true}});
  }
  void submit_streams(int count, Duration ttft = seconds(10)) {
    for (int i = 0; i < count; ++i) submit(next_++, ttft, 1000);
  }
  void state(std::int64_t requests, std::int64_t places, std::int64_t blocks) {
    dispatcher_.on_room(kD,
                        {.requests = requests,
                         .places = places,
                         .free = BlockCount(blocks),
                         .spare = BlockCount(blocks),
                         .block_tokens = Tokens(16),
                         .growth = Tokens(6)},
                        now_);
  }
  // Streams of `hold` each, one after the other.
  void serve(int count, Duration hold) {
    for (int i = 0; i < count; ++i) {
      submit_streams(1);
      const auto legs = run_placed();
      ASSERT_EQ(legs.size(), 1u);
      now_ += hold;
      dispatcher_.on_heard(kD, {}, now_);
      finish(legs[0]);
      dispatcher_.poll(now_);
    }
  }
  std::uint64_t next_ = 1;
};

TEST_F(HoldBackTest, OneIsPrefilledForOnePlaceAndTheOthersAreToldInTime) {
  use_places(1);
  submit_streams(9);
  const auto decoding = run_placed();
  ASSERT_EQ(decoding.size(), 1u);
  EXPECT_EQ(dispatcher_.waiting(), 8u) << "at the gateway";
  const Time start = now_;
  std::size_t busy = 0;
  while (now_ < start + seconds(10)) {
    now_ = std::min(*dispatcher_.next_deadline(), start + seconds(10));
    for (const auto& action : dispatcher_.poll(now_)) {
      EXPECT_FALSE(std::holds_alternative<SendPrefill>(action));
      if (const auto* renew = std::get_if<Renew>(&action))
        dispatcher_.on_heard(renew->worker, {}, now_);
      if (const auto* ended = std::get_if<Finish>(&action)) {
        EXPECT_EQ(ended->end.why, RequestEnd::Why::kBusy);
        ++busy;
      }
    }
  }
  EXPECT_EQ(busy, 8u);
  submit_streams(1);
  EXPECT_TRUE(run_placed().empty());
  finish(decoding[0]);
  EXPECT_EQ(run_placed().size(), 1u) << "its turn";
}

TEST_F(HoldBackTest, WhereOutputsAreShortThePlacesThatWillBecomeFreeCount) {
  use_places(1);
  serve(8, milliseconds(400));
  submit_streams(9);
  std::size_t prefilled = 0;
  for (const auto& leg : polled<SendPrefill>()) prefill(leg), ++prefilled;
  for (const auto& leg : polled<SendDecode>()) join(leg);
  for (const auto& leg : polled<SendPrefill>()) prefill(leg), ++prefilled;
  EXPECT_GE(prefilled, 5u) << "2 s of patience at 0.4 s each";
  EXPECT_LE(prefilled, 7u);
}

TEST_F(HoldBackTest, WhereOutputsAreLongTheyDoNot) {
  use_places(1);
  serve(8, seconds(30));
  submit_streams(9);
  EXPECT_EQ(polled<SendPrefill>().size(), 1u);
}

// Nothing has ended for long: what was measured before says nothing any more.
TEST_F(HoldBackTest, LongOnesAfterShortOnesAreNoticedByTheirAge) {
  use_places(4);
  serve(8, milliseconds(50));
  submit_streams(4);
  EXPECT_EQ(run_placed().size(), 4u);
  now_ += seconds(20);
  dispatcher_.on_heard(kD, {}, now_);
  submit_streams(5);
  EXPECT_TRUE(polled<SendPrefill>().empty());
  EXPECT_EQ(dispatcher_.waiting(), 5u);
}

// What they wait for is a place on D, however fast P's become free.
TEST_F(HoldBackTest, WhoComesAgainIsToldOfTheDs) {
  use_places(1);
  serve(8, seconds(4));
  submit_streams(3);
  EXPECT_EQ(run_placed().size(), 1u);
  ASSERT_EQ(dispatcher_.waiting(), 2u);
  // Within their 10 s both of those that wait are served, one after the other.
  EXPECT_EQ(dispatcher_.expected_wait(now_), seconds(3 * 4));
}

TEST_F(HoldBackTest, WhatDStatesCountsUntilItIsOld) {
  use_places(16);
  state(14, 2, 100);  // of other gateways
  submit_streams(5);
  const auto legs = polled<SendPrefill>();
  EXPECT_EQ(legs.size(), 2u);
  EXPECT_LE(dispatcher_.next_deadline(), now_ + DispatcherOptions{}.decode_patience);
  now_ += DispatcherOptions{}.decode_patience;
  EXPECT_EQ(polled<SendPrefill>().size(), 3u) << "it may have become free";
}

TEST_F(HoldBackTest, BlocksCountToo) {
  use_places(16);
  state(4, 12, 3);  // of two blocks each: 10 + 1 + 6 tokens
  submit_streams(5);
  EXPECT_EQ(polled<SendPrefill>().size(), 1u);
  state(4, 12, 6);
  EXPECT_EQ(polled<SendPrefill>().size(), 2u);
}

TEST_F(HoldBackTest, WhatNeedsNoDIsNotHeldBack) {
  use_places(1);
  submit(next_++, seconds(10), 1);
  submit(next_++, seconds(10), 1);
  EXPECT_EQ(polled<SendPrefill>().size(), 2u);
}

// Its stream would begin and go no further.
TEST_F(HoldBackTest, WithoutADNothingIsPrefilledAndTheyAreToldThatNobodyIsThere) {
  use({}, {{kP, Role::kPrefill, 8, 0, true}});
  submit_streams(3);
  EXPECT_TRUE(polled<SendPrefill>().empty());
  now_ += seconds(10);
  const auto ended = polled<Finish>();
  ASSERT_EQ(ended.size(), 3u);
  for (const auto& finish : ended) EXPECT_EQ(finish.end.why, RequestEnd::Why::kNoWorker);
  // Who has more time is told as soon as it is sure.
  submit_streams(1, seconds(300));
  const Time start = now_;
  while (polled<Finish>().empty() && now_ < start + seconds(100))
    now_ = *dispatcher_.next_deadline();
  EXPECT_LE(now_ - start, DispatcherOptions{}.empty_patience);
}

TEST_F(HoldBackTest, WithoutADThatCanBeReachedEither) {
  use_places(4);
  dispatcher_.on_unreachable(kD, now_);
  submit_streams(3);
  EXPECT_TRUE(polled<SendPrefill>().empty());
  dispatcher_.on_reachable(kD);
  EXPECT_EQ(polled<SendPrefill>().size(), 3u);
}

TEST_F(HoldBackTest, WhetherADThatFailedWorksAgainOneFindsOut) {
  use_places(4);
  submit_streams(1);
  prefill(polled<SendPrefill>().at(0));
  const auto d = polled<SendDecode>();
  dispatcher_.on_fault(d.at(0).request, d[0].leg, {ErrorCode::kInternal, "failed"}, Blame::kBroke,
                       now_);
  dispatcher_.cancel(d[0].request, now_);
  submit_streams(3);
  EXPECT_TRUE(polled<SendPrefill>().empty());
  now_ = *dispatcher_.next_deadline();
  const auto one = polled<SendPrefill>();
  ASSERT_EQ(one.size(), 1u);
  prefill(one[0]);
  EXPECT_EQ(run_placed().size(), 3u);
}

// G14: a gateway that holds no place, before D's that others keep full.
TEST_F(HoldBackTest, WhereOthersHoldAllPlacesOneAtATimeTriesForTheNextThatIsFree) {
  use_places(2);
  const auto full = [&](Duration hold) {
    dispatcher_.on_room(kD,
                        {.requests = 2,
                         .places = 0,
                         .free = BlockCount(100),
                         .spare = BlockCount(100),
                         .block_tokens = Tokens(16),
                         .growth = Tokens(6),
                         .hold = hold},
                        now_);
  };
  full({});
  submit_streams(3);
  EXPECT_TRUE(polled<SendPrefill>().empty()) << "nothing has ended there yet";
  full(seconds(60));
  EXPECT_TRUE(polled<SendPrefill>().empty()) << "not within its patience";
  full(seconds(1));
  EXPECT_EQ(polled<SendPrefill>().size(), 1u);
}

TEST_F(HoldBackTest, StreamsOfADeadDTakeTheRoomOfTheOthers) {
  use({}, {{kP, Role::kPrefill, 8, 0, true},
           {kD, Role::kDecode, 0, 4, true},
           {kD1, Role::kDecode, 0, 6, true}});
  submit_streams(8);
  EXPECT_EQ(run_placed().size(), 8u);
  dispatcher_.on_topology({{kP, Role::kPrefill, 8, 0, true}, {kD1, Role::kDecode, 0, 6, true}},
                          now_);
  EXPECT_EQ(run_placed().size(), 2u);
  EXPECT_EQ(dispatcher_.waiting(), 2u);
}

}  // namespace
}  // namespace pd::policy
