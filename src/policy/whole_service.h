// Whether a request is computed apart (prefilled on a P, decoded elsewhere) or whole (on one
// aggregated instance), in a group that has both kinds. Pure; what things cost is measured.
#pragma once

#include <cstdint>

#include "base/time.h"
#include "base/units.h"
#include "policy/linear_cost.h"

namespace pd::policy {

enum class WholeMode : std::uint8_t {
  kOff,        // always apart
  kAuto,       // what costs less time, that of others included
  kThreshold,  // whole if no more than so many tokens are to be computed
};

struct WholeOptions {
  WholeMode mode = WholeMode::kAuto;
  Tokens threshold{256};
};

// What the best instance of a kind would have to do for the request.
struct WholeSide {
  Tokens queued;     // of prompts under way there
  Tokens uncached;   // of this prompt, to compute
  int decoding = 0;  // requests whose next tokens wait meanwhile
};

class WholeService {
 public:
  explicit WholeService(const WholeOptions& options) : options_(options) {}

  // A prefill of `computed` tokens took so long, without its wait for others.
  void on_prefilled(Tokens computed, Duration took);
  // A decode leg joined its batch, so long after it was sent; `whole`: where it was prefilled.
  void on_joined(bool whole, Tokens kv, Duration took);

  // Not const: now and then it takes the one that costs a little more, to measure it again.
  bool prefers_whole(Tokens prompt, const WholeSide& apart, const WholeSide& whole);
  // With kOff an aggregated instance prefills nothing that a P can.
  bool strict() const { return options_.mode == WholeMode::kOff; }

 private:
  WholeOptions options_;
  std::uint64_t close_ = 0;  // decisions between two that cost about the same
  LinearCost prefill_{std::chrono::milliseconds(1), std::chrono::microseconds(50)};
  // From another instance, and out of its own memory.
  LinearCost handoff_{std::chrono::milliseconds(2), std::chrono::microseconds(1)};
  LinearCost own_{std::chrono::milliseconds(1), std::chrono::microseconds(1)};
};

}  // namespace pd::policy
