// What became of one request and where its time went. Its phases follow each other without a gap,
// so their times sum to all of it.
#pragma once

#include <array>

#include "base/time.h"
#include "base/units.h"
#include "policy/request.h"

namespace pd::policy {

struct RequestRecord {
  Time submitted;
  RequestPhase phase = RequestPhase::kWaitingPrefill;  // it is in, or was in when it ended
  std::array<Duration, 5> in_phase{};  // by RequestPhase but kDone; all attempts together
  bool taken = false;                  // an instance has taken a leg of it
  int rejections = 0;                  // legs that an instance had no place for
  int crashes = 0;
  int restarts = 0;
  int evictions = 0;         // of the restarts: D was short of memory
  int hedges = 0;            // second prefills beside a slow one
  WorkerId prefill, decode;  // the last it was placed on; 0: none

  Duration in(RequestPhase which) const { return in_phase[static_cast<std::size_t>(which)]; }
  Duration total() const {
    Duration sum{};
    for (const Duration one : in_phase) sum += one;
    return sum;
  }
};

}  // namespace pd::policy
