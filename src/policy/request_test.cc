#include "policy/request.h"

#include <gtest/gtest.h>

namespace pd::policy {
namespace {

constexpr WorkerId kP{1}, kP2{2}, kD{11}, kD2{12};
const Error kGone{ErrorCode::kUnavailable, "gone"};

// A request whose first token is out and whose KV waits on kP.
RequestLife prefilled(LegNumber* p_leg) {
  RequestLife life{RequestLimits{}};
  *p_leg = life.place_prefill(kP);
  life.on_accepted(*p_leg);
  EXPECT_TRUE(life.on_tokens(*p_leg, 0, 1, false));
  life.on_prefilled(*p_leg);
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingDecode);
  return life;
}

RequestLife decoding(LegNumber* d_leg) {
  LegNumber p_leg = 0;
  RequestLife life = prefilled(&p_leg);
  *d_leg = life.place_decode(kD);
  life.on_accepted(*d_leg);
  life.on_joined(*d_leg);
  life.on_released(p_leg, true);
  return life;
}

TEST(RequestLife, PrefillThenDecodeThenDone) {
  LegNumber d = 0;
  RequestLife life = decoding(&d);
  EXPECT_TRUE(life.on_tokens(d, 1, 3, false));
  EXPECT_TRUE(life.on_tokens(d, 4, 1, true));
  EXPECT_TRUE(life.done());
  EXPECT_EQ(life.end()->why, RequestEnd::Why::kCompleted);
  EXPECT_EQ(life.emitted(), 5u);
  EXPECT_TRUE(life.take_cancelled().empty());  // both legs ended by themselves
}

TEST(RequestLife, RejectionIsNotAFaultAndGoesBackToWaiting) {
  RequestLife life{RequestLimits{}};
  life.on_rejected(life.place_prefill(kP));
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill);
  EXPECT_EQ(life.crashes(), 0);
  EXPECT_EQ(life.restarts(), 0);
}

TEST(RequestLife, DecodeRejectionKeepsTheKvOnP) {
  LegNumber p = 0;
  RequestLife life = prefilled(&p);
  life.on_rejected(life.place_decode(kD));
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingDecode);
  EXPECT_TRUE(life.prefill_leg().has_value());
}

RequestLife hedged(LegNumber* first, LegNumber* second) {
  RequestLife life{RequestLimits{}};
  *first = life.place_prefill(kP);
  life.on_accepted(*first);
  *second = life.place_hedge(kP2);
  life.on_accepted(*second);
  return life;
}

TEST(RequestLife, OfTwoPrefillsTheFirstTokenCountsAndTheOtherIsCancelled) {
  for (const bool second_wins : {false, true}) {
    LegNumber legs[2] = {};
    RequestLife life = hedged(&legs[0], &legs[1]);
    const LegNumber winner = legs[second_wins ? 1 : 0], loser = legs[second_wins ? 0 : 1];
    EXPECT_TRUE(life.on_tokens(winner, 0, 1, false));
    const auto cancelled = life.take_cancelled();
    ASSERT_EQ(cancelled.size(), 1u);
    EXPECT_EQ(cancelled[0].leg, loser);
    EXPECT_FALSE(life.on_tokens(loser, 0, 1, false)) << "late: doubled tokens are dropped";
    life.on_prefilled(loser);
    EXPECT_EQ(life.phase(), RequestPhase::kPrefilling);
    life.on_prefilled(winner);
    EXPECT_EQ(life.phase(), RequestPhase::kWaitingDecode);
    EXPECT_EQ(life.prefill_leg()->number, winner);
    EXPECT_EQ(life.emitted(), 1u);
    EXPECT_EQ(life.restarts() + life.crashes(), 0);
  }
}

TEST(RequestLife, OfTwoPrefillsOneMayFailAndTheOtherGoesOn) {
  for (const bool second_fails : {false, true}) {
    LegNumber legs[2] = {};
    RequestLife life = hedged(&legs[0], &legs[1]);
    life.on_fault(legs[second_fails ? 1 : 0], kGone, Blame::kBroke);
    EXPECT_EQ(life.phase(), RequestPhase::kPrefilling);
    EXPECT_EQ(life.crashes(), 1);
    EXPECT_EQ(life.restarts(), 0);
    EXPECT_FALSE(life.hedge_leg());
    EXPECT_EQ(life.prefill_leg()->number, legs[second_fails ? 0 : 1]);
    life.on_fault(legs[second_fails ? 0 : 1], kGone, Blame::kNobody);
    EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill) << "now nobody computes it";
    EXPECT_TRUE(life.take_cancelled().empty());
  }
}

TEST(RequestLife, ARejectedHedgeLeavesThePrefillAlone) {
  RequestLife life{RequestLimits{}};
  const LegNumber first = life.place_prefill(kP);
  life.on_rejected(life.place_hedge(kP2));
  EXPECT_EQ(life.prefill_leg()->number, first);
  const LegNumber second = life.place_hedge(kP2);
  life.on_rejected(first);
  EXPECT_EQ(life.prefill_leg()->number, second);
  life.on_rejected(second);
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill);
}

TEST(RequestLife, TheEndCancelsBothPrefills) {
  LegNumber legs[2] = {};
  RequestLife life = hedged(&legs[0], &legs[1]);
  life.finish({RequestEnd::Why::kCancelled, {}});
  EXPECT_EQ(life.take_cancelled().size(), 2u);
}

TEST(RequestLife, AHedgeCannotOutliveAPoisonedOrRefusedRequest) {
  LegNumber legs[2] = {};
  RequestLife refused = hedged(&legs[0], &legs[1]);
  refused.on_fault(legs[1], {ErrorCode::kInvalidArgument, "bad"}, Blame::kNobody);
  EXPECT_TRUE(refused.done());
  EXPECT_EQ(refused.take_cancelled().size(), 1u);
  RequestLife poisoned{RequestLimits{.crashes_to_poison = 1}};
  legs[0] = poisoned.place_prefill(kP);
  poisoned.on_accepted(legs[0]);
  legs[1] = poisoned.place_hedge(kP2);
  poisoned.on_fault(legs[0], kGone, Blame::kBroke);
  EXPECT_EQ(poisoned.end()->why, RequestEnd::Why::kPoison);
}

TEST(RequestLife, DeathOfDResumesByPrefillElsewhere) {
  LegNumber d = 0;
  RequestLife life = decoding(&d);
  EXPECT_TRUE(life.on_tokens(d, 1, 5, false));
  life.on_fault(d, kGone, Blame::kBroke);
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill);
  EXPECT_EQ(life.emitted(), 6u);
  EXPECT_EQ(life.crashes(), 1);
  const LegNumber p2 = life.place_prefill(kP2);
  life.on_accepted(p2);
  EXPECT_FALSE(life.on_tokens(d, 6, 1, false)) << "a late token of the dead leg";
  EXPECT_TRUE(life.on_tokens(p2, 6, 1, false));
}

TEST(RequestLife, DeathOfPBeforeHandoffCancelsTheDecodeLegOnceAndCountsOneCrash) {
  LegNumber p = 0;
  RequestLife life = prefilled(&p);
  const LegNumber d = life.place_decode(kD);
  life.on_accepted(d);
  life.on_fault(p, kGone, Blame::kBroke);
  const auto cancelled = life.take_cancelled();
  ASSERT_EQ(cancelled.size(), 1u);
  EXPECT_EQ(cancelled[0].leg, d);
  life.on_fault(d, kGone, Blame::kBroke);  // the other half of the same incident
  EXPECT_EQ(life.crashes(), 1);
  EXPECT_EQ(life.restarts(), 1);
}

TEST(RequestLife, DeathOfPAfterHandoffChangesNothing) {
  LegNumber p = 0;
  RequestLife life = prefilled(&p);
  const LegNumber d = life.place_decode(kD);
  life.on_accepted(d);
  life.on_joined(d);
  life.on_fault(p, kGone, Blame::kBroke);
  EXPECT_EQ(life.phase(), RequestPhase::kDecoding);
  EXPECT_EQ(life.crashes(), 0);
}

TEST(RequestLife, ALeaseThatEndsBeforeThePullMeansPrefillAgain) {
  LegNumber p = 0;
  RequestLife life = prefilled(&p);
  life.on_released(p, false);
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill);
  EXPECT_EQ(life.crashes(), 0);
}

TEST(RequestLife, UnreachableDLeavesTheKvToAnotherD) {
  LegNumber p = 0;
  RequestLife life = prefilled(&p);
  life.on_fault(life.place_decode(kD), kGone, Blame::kNobody);  // never accepted
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingDecode);
  EXPECT_EQ(life.crashes(), 0);
  life.on_accepted(life.place_decode(kD2));
}

// G8: whoever was on two workers when they crashed is not placed on a third.
TEST(RequestLife, TheSecondWorkerThatCrashesUnderItEndsIt) {
  for (const bool on_decode : {false, true}) {
    LegNumber d = 0;
    RequestLife life = decoding(&d);
    life.on_fault(d, kGone, Blame::kBroke);
    ASSERT_EQ(life.phase(), RequestPhase::kWaitingPrefill);
    LegNumber last = life.place_prefill(kP2);
    life.on_accepted(last);
    if (on_decode) {
      ASSERT_TRUE(life.on_tokens(last, 1, 1, false));
      life.on_prefilled(last);
      last = life.place_decode(kD2);
      life.on_accepted(last);
    }
    life.on_fault(last, kGone, Blame::kBroke);
    ASSERT_TRUE(life.done());
    EXPECT_EQ(life.end()->why, RequestEnd::Why::kPoison);
    EXPECT_EQ(life.crashes(), 2);
    EXPECT_EQ(life.take_cancelled().size(), on_decode ? 1u : 0u) << "P's leg with the KV";
  }
}

TEST(RequestLife, OneDeathThatTakesBothLegsCountsOnce) {
  for (const bool prefill_first : {false, true}) {
    RequestLife life{RequestLimits{}};
    const LegNumber p = life.place_prefill(kD);  // an aggregated instance
    life.on_accepted(p);
    ASSERT_TRUE(life.on_tokens(p, 0, 1, false));
    life.on_prefilled(p);
    const LegNumber d = life.place_decode(kD);
    life.on_accepted(d);
    life.on_fault(prefill_first ? p : d, kGone, Blame::kBroke);
    life.on_fault(prefill_first ? d : p, kGone, Blame::kBroke);
    EXPECT_EQ(life.crashes(), 1);
    EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill);
  }
}

// It fell silent, came back and fell silent again: that takes nobody else down.
TEST(RequestLife, AWorkerThatFailsTwiceIsOneWorker) {
  RequestLife life{RequestLimits{}};
  for (int i = 1; i <= 2; ++i) {
    const LegNumber p = life.place_prefill(kP);
    life.on_accepted(p);
    life.on_fault(p, kGone, Blame::kBroke);
    EXPECT_EQ(life.crashes(), 1);
    EXPECT_EQ(life.restarts(), i);
    EXPECT_EQ(life.charged(), i - 1);
  }
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill);
}

// A network that forgot a connection: the instance has given up what it heard no more of, and what
// was sent since has not arrived.
TEST(RequestLife, ALegThatIsDeniedIsNobodysCrashAndTheFirstIsFree) {
  LegNumber d = 0;
  RequestLife life = decoding(&d);
  life.on_denied(d);
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill);
  EXPECT_EQ(life.restarts(), 1);
  EXPECT_EQ(life.charged(), 0);
  life.on_denied(life.place_prefill(kP));  // it never came there
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill);
  EXPECT_EQ(life.restarts(), 1);
  const LegNumber p = life.place_prefill(kP2);
  life.on_accepted(p);
  life.on_denied(p);
  EXPECT_EQ(life.restarts(), 2);
  EXPECT_EQ(life.charged(), 1) << "the second is the budget's";
  EXPECT_EQ(life.crashes(), 0);
  life.on_denied(p);  // stale
  EXPECT_EQ(life.restarts(), 2);
}

TEST(RequestLife, ADecodeLegThatNeverArrivedLeavesTheKvToAnotherD) {
  LegNumber p = 0;
  RequestLife life = prefilled(&p);
  life.on_denied(life.place_decode(kD));
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingDecode);
  EXPECT_EQ(life.restarts(), 0);
  EXPECT_TRUE(life.take_cancelled().empty()) << "P still holds it";
  const LegNumber d = life.place_decode(kD2);
  life.on_accepted(d);
  life.on_joined(d);
  life.on_denied(p);  // D has the KV
  EXPECT_EQ(life.phase(), RequestPhase::kDecoding);
  EXPECT_EQ(life.restarts(), 0);
}

TEST(RequestLife, OfTwoPrefillsADeniedOneLeavesTheOther) {
  for (const bool first : {true, false}) {
    RequestLife life{RequestLimits{}};
    const LegNumber p = life.place_prefill(kP);
    life.on_accepted(p);
    const LegNumber hedge = life.place_hedge(kP2);
    life.on_accepted(hedge);
    life.on_denied(first ? p : hedge);
    EXPECT_EQ(life.phase(), RequestPhase::kPrefilling);
    EXPECT_EQ(life.restarts(), 0);
    EXPECT_TRUE(life.on_tokens(first ? hedge : p, 0, 1, false));
  }
}

// G8: a request that kills before it is accepted takes no more than a few down.
TEST(RequestLife, TheFourthWorkerThatDiesOnReceiptEndsIt) {
  RequestLife life{RequestLimits{}};
  for (std::uint64_t worker = 1; worker <= 3; ++worker) {
    life.on_fault(life.place_prefill(WorkerId(worker)), kGone, Blame::kDiedOnReceipt);
    EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill);
    life.on_fault(life.place_prefill(WorkerId(100 + worker)), kGone, Blame::kBroke);
    EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill) << "it was never sent there";
  }
  EXPECT_EQ(life.crashes() + life.restarts(), 0);
  life.on_fault(life.place_prefill(WorkerId(4)), kGone, Blame::kDiedOnReceipt);
  ASSERT_TRUE(life.done());
  EXPECT_EQ(life.end()->why, RequestEnd::Why::kPoison);
}

TEST(RequestLife, ACrashAndTwoDeathsOnReceiptEndIt) {
  LegNumber p = 0;
  RequestLife life = prefilled(&p);
  life.on_fault(life.place_decode(kD), kGone, Blame::kDiedOnReceipt);
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingDecode) << "P still has the KV";
  life.on_fault(p, kGone, Blame::kDiedOnReceipt);  // and had accepted it
  EXPECT_EQ(life.crashes(), 1);
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill) << "two that go down together";
  life.on_fault(life.place_prefill(kP2), kGone, Blame::kDiedOnReceipt);
  ASSERT_TRUE(life.done());
  EXPECT_EQ(life.end()->why, RequestEnd::Why::kPoison);
}

// A lease that ended, KV that could not be pulled: the worker is well.
TEST(RequestLife, AFaultOfAWorkerThatLivesIsNoCrash) {
  LegNumber p = 0;
  RequestLife life = prefilled(&p);
  const LegNumber d = life.place_decode(kD);
  life.on_accepted(d);
  life.on_fault(d, kGone, Blame::kNobody);
  EXPECT_EQ(life.crashes(), 0);
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill)
      << "what cannot be pulled is computed anew";
  EXPECT_EQ(life.take_cancelled().size(), 1u);
}

TEST(RequestLife, BadRequestIsNotTriedAgain) {
  RequestLife life{RequestLimits{}};
  const LegNumber p = life.place_prefill(kP);
  life.on_accepted(p);
  life.on_fault(p, {ErrorCode::kInvalidArgument, "id 9 is not in the vocabulary"}, Blame::kNobody);
  ASSERT_TRUE(life.done());
  EXPECT_EQ(life.end()->why, RequestEnd::Why::kFailed);
}

TEST(RequestLife, AFaultThatBlamesTheRequestEndsItBeforeItIsAcceptedToo) {
  for (const auto code :
       {ErrorCode::kInvalidArgument, ErrorCode::kUnsupported, ErrorCode::kTooLarge}) {
    RequestLife on_prefill{RequestLimits{}};
    on_prefill.on_fault(on_prefill.place_prefill(kP), {code, "never"}, Blame::kNobody);
    ASSERT_TRUE(on_prefill.done());
    EXPECT_EQ(on_prefill.end()->error.message, "never");

    // A KV that no pool of the group holds: asking D again and again would be the only thing to do.
    LegNumber p = 0;
    RequestLife on_decode = prefilled(&p);
    on_decode.on_fault(on_decode.place_decode(kD), {code, "never"}, Blame::kNobody);
    ASSERT_TRUE(on_decode.done());
    EXPECT_EQ(on_decode.end()->why, RequestEnd::Why::kFailed);
    EXPECT_EQ(on_decode.take_cancelled().size(), 1u) << "P's leg";
  }
}

TEST(RequestLife, ADThatRefusesIsNotAskedForEver) {
  LegNumber p = 0;
  RequestLife life = prefilled(&p);
  int tries = 0;
  for (; !life.done() && tries < 100; ++tries)
    life.on_fault(life.place_decode(kD), kGone, Blame::kNobody);
  EXPECT_EQ(tries, RequestLimits{}.restarts_max + 1);
  EXPECT_EQ(life.end()->why, RequestEnd::Why::kFailed);
}

TEST(RequestLife, InstancesThatAreGoneCostARequestNothing) {
  RequestLife life{RequestLimits{}};
  for (int i = 0; i < 100; ++i) life.on_fault(life.place_prefill(kP), kGone, Blame::kBroke);
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill);
  const LegNumber p = life.place_prefill(kP);
  life.on_accepted(p);
  ASSERT_TRUE(life.on_tokens(p, 0, 1, false));
  life.on_prefilled(p);
  for (int i = 0; i < 100; ++i) life.on_fault(life.place_decode(kD), kGone, Blame::kBroke);
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingDecode);
  EXPECT_EQ(life.crashes() + life.restarts(), 0);
  // An instance that had accepted it is another matter.
  life.on_fault(p, kGone, Blame::kBroke);
  EXPECT_EQ(life.crashes(), 1);
}

TEST(RequestLife, AGapInTheOutputIsAFaultNotAShorterAnswer) {
  LegNumber d = 0;
  RequestLife life = decoding(&d);
  EXPECT_FALSE(life.on_tokens(d, 2, 1, false));
  EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill);
  EXPECT_EQ(life.emitted(), 1u);
}

TEST(RequestLife, EvictionsAreCountedAmongTheRestarts) {
  RequestLife life({});
  for (int i = 1; i <= 2; ++i) {
    const LegNumber prefill = life.place_prefill(WorkerId(1));
    life.on_accepted(prefill);
    ASSERT_TRUE(life.on_tokens(prefill, life.emitted(), 1, false));
    life.on_prefilled(prefill);
    const LegNumber decode = life.place_decode(WorkerId(2));
    life.on_accepted(decode);
    life.on_joined(decode);
    life.on_released(prefill, true);
    life.on_evicted(decode);
    life.on_evicted(decode);  // stale
    EXPECT_EQ(life.evictions(), i);
    EXPECT_EQ(life.restarts(), i);
    EXPECT_EQ(life.charged(), i - 1) << "the first is not the budget's";
    EXPECT_EQ(life.crashes(), 0);
    EXPECT_EQ(life.phase(), RequestPhase::kWaitingPrefill);
  }
}

}  // namespace
}  // namespace pd::policy
