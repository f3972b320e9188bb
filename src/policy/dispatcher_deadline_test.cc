// The absolute deadline (G16).
#include <algorithm>

#include "policy/dispatcher_fixture.h"

namespace pd::policy {
namespace {

using std::chrono::seconds;

constexpr WorkerId kP{1}, kD{2};

enum class Says { kNothing, kBusy, kYes };

class DeadlineTest : public DispatcherFixture {
 protected:
  // One request with a deadline in 2 s, to whose legs the two instances say this: the phase in
  // which it ended. It is in no other for any time.
  RequestPhase ends_in(Says prefill_says, Says decode_says) {
    use({}, {{kP, Role::kPrefill, 1, 0, true}, {kD, Role::kDecode, 0, 4, true}});
    const Time deadline = now_ + seconds(2);
    dispatcher_.submit(
        {.request = {0, 1}, .deadlines = {now_ + seconds(10), deadline}, .output_max = Tokens(100)},
        now_);
    std::vector<Finish> ended;
    while (ended.empty() && now_ <= deadline) {
      const auto actions = dispatcher_.poll(now_);
      for (const auto& action : actions) {
        if (const auto* p = std::get_if<SendPrefill>(&action)) reply(*p, prefill_says);
        if (const auto* d = std::get_if<SendDecode>(&action)) reply(*d, decode_says);
        if (const auto* renew = std::get_if<Renew>(&action))
          dispatcher_.on_heard(renew->worker, {}, now_);
        if (const auto* finish = std::get_if<Finish>(&action)) ended.push_back(*finish);
      }
      if (actions.empty()) now_ = std::max(now_, *dispatcher_.next_deadline());
    }
    if (ended.size() != 1) {
      ADD_FAILURE() << "not ended at " << now_.time_since_epoch().count();
      return RequestPhase::kDone;
    }
    EXPECT_EQ(now_, deadline);
    EXPECT_EQ(ended[0].end.why, RequestEnd::Why::kDeadline);
    EXPECT_EQ(ended[0].record.total(), seconds(2));
    EXPECT_EQ(ended[0].record.in(ended[0].record.phase), seconds(2));
    EXPECT_EQ(dispatcher_.in_flight(), 0u);
    return ended[0].record.phase;
  }

 private:
  void reply(const SendPrefill& leg, Says says) {
    if (says == Says::kBusy) dispatcher_.on_rejected(leg.request, leg.leg, seconds(1), now_);
    if (says == Says::kYes) prefill(leg);
  }
  void reply(const SendDecode& leg, Says says) {
    if (says == Says::kBusy) dispatcher_.on_rejected(leg.request, leg.leg, seconds(1), now_);
    if (says == Says::kYes) join(leg);
  }
};

TEST_F(DeadlineTest, IsKeptInEveryPhaseAndNamesIt) {
  EXPECT_EQ(ends_in(Says::kBusy, Says::kYes), RequestPhase::kWaitingPrefill);
  EXPECT_EQ(ends_in(Says::kNothing, Says::kYes), RequestPhase::kPrefilling);
  EXPECT_EQ(ends_in(Says::kYes, Says::kBusy), RequestPhase::kWaitingDecode);
  EXPECT_EQ(ends_in(Says::kYes, Says::kNothing), RequestPhase::kJoining);
  EXPECT_EQ(ends_in(Says::kYes, Says::kYes), RequestPhase::kDecoding);
}

}  // namespace
}  // namespace pd::policy
