#include "policy/request.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace pd::policy {
namespace {

// The request itself is wrong, or its time is over: another worker would say the same.
bool blames_request(const Error& fault) {
  return fault.code == ErrorCode::kInvalidArgument || fault.code == ErrorCode::kUnsupported ||
         fault.code == ErrorCode::kTooLarge || fault.code == ErrorCode::kDeadlineExceeded;
}

}  // namespace

std::optional<WorkerId> RequestLife::worker_of(LegNumber leg) const {
  for (const auto* held : {&prefill_, &hedge_, &decode_}) {
    if (holds(*held, leg)) return (*held)->worker;
  }
  return std::nullopt;
}

bool RequestLife::accepted(LegNumber leg) const {
  return std::ranges::any_of(std::initializer_list{&prefill_, &hedge_, &decode_},
                             [&](auto* held) { return holds(*held, leg) && (*held)->accepted; });
}

LegNumber RequestLife::place_prefill(WorkerId worker) {
  CHECK(phase_ == RequestPhase::kWaitingPrefill);
  prefill_ = Leg{next_leg_++, worker};
  phase_ = RequestPhase::kPrefilling;
  return prefill_->number;
}

LegNumber RequestLife::place_decode(WorkerId worker) {
  CHECK(phase_ == RequestPhase::kWaitingDecode);
  decode_ = Leg{next_leg_++, worker};
  phase_ = RequestPhase::kJoining;
  return decode_->number;
}

LegNumber RequestLife::place_hedge(WorkerId worker) {
  CHECK(phase_ == RequestPhase::kPrefilling && !hedge_);
  hedge_ = Leg{next_leg_++, worker};
  return hedge_->number;
}

bool RequestLife::prefills(LegNumber number) {
  if (phase_ != RequestPhase::kPrefilling) return false;
  if (holds(hedge_, number)) std::swap(prefill_, hedge_);
  if (!holds(prefill_, number)) return false;
  drop(hedge_);
  return true;
}

void RequestLife::on_accepted(LegNumber leg) {
  if (holds(hedge_, leg)) hedge_->accepted = true;
  if (holds(prefill_, leg)) prefill_->accepted = true;
  if (holds(decode_, leg)) decode_->accepted = true;
  taken_ |= accepted(leg);
}

void RequestLife::on_rejected(LegNumber leg) {
  if (holds(hedge_, leg)) {
    hedge_.reset();
  } else if (holds(prefill_, leg) && hedge_) {
    prefill_ = std::exchange(hedge_, std::nullopt);
  } else if (holds(prefill_, leg) && phase_ == RequestPhase::kPrefilling) {
    prefill_.reset();
    phase_ = RequestPhase::kWaitingPrefill;
  } else if (holds(decode_, leg) && phase_ == RequestPhase::kJoining) {
    decode_.reset();
    phase_ = RequestPhase::kWaitingDecode;
  }
}

bool RequestLife::on_tokens(LegNumber leg, std::uint32_t index, std::uint32_t count,
                            bool finished) {
  const bool from_prefill = prefills(leg);
  const bool from_decode = holds(decode_, leg) &&
                           (phase_ == RequestPhase::kJoining || phase_ == RequestPhase::kDecoding);
  if (!from_prefill && !from_decode) return false;
  taken_ = true;
  if (index != emitted_) {
    on_accepted(leg);  // it works on it, whatever it has said
    on_fault(leg, Error{ErrorCode::kInternal, "worker sent output tokens out of order"},
             Blame::kBroke);
    return false;
  }
  emitted_ += count;
  if (from_decode) phase_ = RequestPhase::kDecoding;
  if (finished) {
    // Cancelling would cost a connection, and these end by themselves: the one that finished, and
    // a P whose KV D has.
    prefill_.reset();
    decode_.reset();
    finish({RequestEnd::Why::kCompleted, {}});
  }
  return true;
}

void RequestLife::on_prefilled(LegNumber leg) {
  if (prefills(leg)) phase_ = RequestPhase::kWaitingDecode;
}

void RequestLife::on_joined(LegNumber leg) {
  if (holds(decode_, leg) && phase_ == RequestPhase::kJoining) phase_ = RequestPhase::kDecoding;
}

void RequestLife::on_released(LegNumber leg, bool pulled) {
  if (holds(hedge_, leg)) hedge_.reset();
  if (!holds(prefill_, leg)) return;
  if (hedge_) {  // its lease ended before its first token; the other goes on
    prefill_ = std::exchange(hedge_, std::nullopt);
    return;
  }
  prefill_.reset();
  if (pulled || phase_ == RequestPhase::kDecoding) return;
  // The KV is gone and nobody has it: what the waiting or joining leg would pull does not exist.
  restart();
}

void RequestLife::on_evicted(LegNumber leg) {
  if (!holds(decode_, leg)) return;
  decode_.reset();
  restart(++evictions_ > 1);
}

void RequestLife::on_fault(LegNumber leg, const Error& fault, Blame blame) {
  if (hedge_ && (holds(hedge_, leg) || holds(prefill_, leg)))
    return on_hedged_fault(leg, fault, blame);
  const bool on_prefill = holds(prefill_, leg);
  if (!on_prefill && !holds(decode_, leg)) return;
  std::optional<Leg>& held = on_prefill ? prefill_ : decode_;
  const Leg over = *held;
  held.reset();
  if (on_prefill && phase_ == RequestPhase::kDecoding) return;  // D has the KV already
  const bool broke = blame != Blame::kNobody;
  if (blames_request(fault)) {
    refused(fault);
  } else if (over.accepted && broke) {
    if (const auto again = crashed_again(over.worker, fault)) restart(*again);
  } else if (blame == Blame::kDiedOnReceipt && !survives_death_on_receipt(over.worker, fault)) {
    return;
  } else if (prefill_ && !over.accepted) {
    // It never joined D, and P still holds the KV.
    if (broke || placed_again()) phase_ = RequestPhase::kWaitingDecode;
  } else if (on_prefill && broke) {
    phase_ = RequestPhase::kWaitingPrefill;
  } else {
    restart();
  }
}

void RequestLife::on_denied(LegNumber leg) {
  if (hedge_ && holds(prefill_, leg)) std::swap(prefill_, hedge_);
  if (holds(hedge_, leg)) return hedge_.reset();
  const bool on_prefill = holds(prefill_, leg);
  if (!on_prefill && !holds(decode_, leg)) return;
  std::optional<Leg>& held = on_prefill ? prefill_ : decode_;
  const bool accepted = held->accepted;
  held.reset();
  if (on_prefill && phase_ == RequestPhase::kDecoding) return;  // D has the KV already
  if (accepted || (!on_prefill && !prefill_)) return restart(std::exchange(denied_, true));
  phase_ = on_prefill ? RequestPhase::kWaitingPrefill : RequestPhase::kWaitingDecode;
}

// One of two that compute the same: the other goes on, unless the fault says that it should not.
void RequestLife::on_hedged_fault(LegNumber leg, const Error& fault, Blame blame) {
  if (holds(prefill_, leg)) std::swap(prefill_, hedge_);
  const Leg over = *hedge_;
  hedge_.reset();
  if (blames_request(fault)) return refused(fault);
  if (over.accepted && blame != Blame::kNobody)
    crashed_again(over.worker, fault);
  else if (blame == Blame::kDiedOnReceipt)
    survives_death_on_receipt(over.worker, fault);
}

void RequestLife::refused(const Error& fault) {
  finish({fault.code == ErrorCode::kDeadlineExceeded ? RequestEnd::Why::kDeadline
                                                     : RequestEnd::Why::kFailed,
          fault});
}

std::optional<bool> RequestLife::crashed_again(WorkerId worker, const Error& fault) {
  const bool again = std::ranges::find(crashed_, worker) != crashed_.end();
  if (!again) crashed_.push_back(worker);
  if (poisoned(fault)) return std::nullopt;
  return again;
}

bool RequestLife::survives_death_on_receipt(WorkerId worker, const Error& fault) {
  if (std::ranges::find(died_on_receipt_, worker) == died_on_receipt_.end())
    died_on_receipt_.push_back(worker);
  return !poisoned(fault);
}

bool RequestLife::poisoned(const Error& fault) {
  const int per_crash = limits_.deaths_on_receipt_per_crash;
  const int deaths = crashes() * per_crash + static_cast<int>(died_on_receipt_.size());
  if (deaths < limits_.crashes_to_poison * per_crash) return false;
  finish({RequestEnd::Why::kPoison, fault});
  return true;
}

void RequestLife::restart(bool charged) {
  drop(prefill_);
  drop(hedge_);
  drop(decode_);
  charged_ += charged;
  if (placed_again()) phase_ = RequestPhase::kWaitingPrefill;
}

bool RequestLife::placed_again() {
  ++restarts_;
  if (restarts_ <= limits_.restarts_max) return true;
  finish({RequestEnd::Why::kFailed,
          {ErrorCode::kUnavailable, "the request had to be placed again too often"}});
  return false;
}

void RequestLife::finish(RequestEnd end) {
  if (done()) return;
  drop(prefill_);
  drop(hedge_);
  drop(decode_);
  phase_ = RequestPhase::kDone;
  end_ = std::move(end);
}

void RequestLife::drop(std::optional<Leg>& leg) {
  if (!leg) return;
  cancelled_.push_back({leg->number, leg->worker});
  leg.reset();
}

std::vector<CancelLeg> RequestLife::take_cancelled() { return std::exchange(cancelled_, {}); }

}  // namespace pd::policy
