// Whether a request is computed apart (prefilled on a P, decoded elsewhere) or whole (on one
// aggregated instance), in a group that has both kinds. Pure; what things cost is measured.
#pragma once

#include <cstdint>

#include "base/time.h"
#include "base/units.h"

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

// Time as fixed + per unit, fitted to what was measured; the newest count most. Until three
// different amounts were measured: the first guess.
class LinearCost {
 public:
  LinearCost(Duration fixed, Duration per_unit)
      : fixed_(to_seconds(fixed)), per_unit_(to_seconds(per_unit)) {}
  void on_measured(std::int64_t units, Duration took);
  double seconds(std::int64_t units) const;  // >= 0

 private:
  void fit();
  double fixed_, per_unit_;
  double n_ = 0, x_ = 0, y_ = 0, xx_ = 0, xy_ = 0;  // decayed sums
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
