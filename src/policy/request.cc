#include "policy/request.h"

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

void RequestLife::on_accepted(LegNumber leg) {
  if (holds(prefill_, leg)) prefill_->accepted = true;
  if (holds(decode_, leg)) decode_->accepted = true;
}

void RequestLife::on_rejected(LegNumber leg) {
  if (holds(prefill_, leg) && phase_ == RequestPhase::kPrefilling) {
    prefill_.reset();
    phase_ = RequestPhase::kWaitingPrefill;
  } else if (holds(decode_, leg) && phase_ == RequestPhase::kJoining) {
    decode_.reset();
    phase_ = RequestPhase::kWaitingDecode;
  }
}

bool RequestLife::on_tokens(LegNumber leg, std::uint32_t index, std::uint32_t count,
                            bool finished) {
  const bool from_prefill = holds(prefill_, leg) && phase_ == RequestPhase::kPrefilling;
  const bool from_decode = holds(decode_, leg) &&
                           (phase_ == RequestPhase::kJoining || phase_ == RequestPhase::kDecoding);
  if (!from_prefill && !from_decode) return false;
  if (index != emitted_) {
    on_fault(leg, Error{ErrorCode::kInternal, "worker sent output tokens out of order"});
    return false;
  }
  emitted_ += count;
  if (from_decode) phase_ = RequestPhase::kDecoding;
  if (finished) {
    (from_prefill ? prefill_ : decode_)
        .reset();  // it ends by itself; cancelling would cost its connection
    finish({RequestEnd::Why::kCompleted, {}});
  }
  return true;
}

void RequestLife::on_prefilled(LegNumber leg) {
  if (holds(prefill_, leg) && phase_ == RequestPhase::kPrefilling)
    phase_ = RequestPhase::kWaitingDecode;
}

void RequestLife::on_joined(LegNumber leg) {
  if (holds(decode_, leg) && phase_ == RequestPhase::kJoining) phase_ = RequestPhase::kDecoding;
}

void RequestLife::on_released(LegNumber leg, bool pulled) {
  if (!holds(prefill_, leg)) return;
  prefill_.reset();
  if (pulled || phase_ == RequestPhase::kDecoding) return;
  // The KV is gone and nobody has it: what the waiting or joining leg would pull does not exist.
  restart();
}

void RequestLife::on_evicted(LegNumber leg) {
  if (!holds(decode_, leg)) return;
  decode_.reset();
  restart();
}

void RequestLife::on_fault(LegNumber leg, const Error& fault, bool unreached) {
  const bool on_prefill = holds(prefill_, leg);
  if (!on_prefill && !holds(decode_, leg)) return;
  std::optional<Leg>& held = on_prefill ? prefill_ : decode_;
  const bool accepted = held->accepted;
  held.reset();
  if (on_prefill && phase_ == RequestPhase::kDecoding) return;  // D has the KV already
  if (blames_request(fault)) {
    finish({fault.code == ErrorCode::kDeadlineExceeded ? RequestEnd::Why::kDeadline
                                                       : RequestEnd::Why::kFailed,
            fault});
  } else if (accepted) {
    crash(fault);
  } else if (prefill_) {
    // It never joined D, and P still holds the KV.
    if (unreached || placed_again()) phase_ = RequestPhase::kWaitingDecode;
  } else if (on_prefill && unreached) {
    phase_ = RequestPhase::kWaitingPrefill;
  } else {
    restart();
  }
}

void RequestLife::crash(const Error& fault) {
  ++crashes_;
  if (crashes_ > limits_.crashes_max) {
    finish({RequestEnd::Why::kPoison, fault});
    return;
  }
  restart();
}

void RequestLife::restart() {
  drop(prefill_);
  drop(decode_);
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
