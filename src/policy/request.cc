#include "policy/request.h"

#include <utility>

#include "base/check.h"

namespace pd::policy {

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

void RequestLife::on_fault(LegNumber leg, const Error& fault) {
  if (holds(prefill_, leg)) {
    const bool accepted = prefill_->accepted;
    prefill_.reset();
    if (phase_ == RequestPhase::kDecoding) return;  // D has the KV; P is no longer needed
    accepted ? crash(fault) : restart();
  } else if (holds(decode_, leg)) {
    const bool accepted = decode_->accepted;
    decode_.reset();
    if (!accepted && prefill_) {
      phase_ = RequestPhase::kWaitingDecode;  // never reached D; P still holds the KV
    } else {
      accepted ? crash(fault) : restart();
    }
  }
}

void RequestLife::crash(const Error& fault) {
  // The request itself is wrong: another worker would say the same.
  if (fault.code == ErrorCode::kInvalidArgument || fault.code == ErrorCode::kUnsupported ||
      fault.code == ErrorCode::kTooLarge) {
    finish({RequestEnd::Why::kFailed, fault});
    return;
  }
  if (fault.code == ErrorCode::kDeadlineExceeded) {
    finish({RequestEnd::Why::kDeadline, fault});
    return;
  }
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
  ++restarts_;
  if (restarts_ > limits_.restarts_max) {
    finish({RequestEnd::Why::kFailed,
            {ErrorCode::kUnavailable, "the request had to be placed again too often"}});
    return;
  }
  phase_ = RequestPhase::kWaitingPrefill;
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
