// How long outputs become, learned from finished requests: what D must keep free for the requests
// it has accepted (G15). Pure.
#pragma once

#include <cstddef>
#include <vector>

#include "base/units.h"

namespace pd::policy {

class GrowthModel {
 public:
  // `window`: finished requests remembered. `first_guess`: output length before anything finished.
  GrowthModel(std::size_t window, Tokens first_guess) : window_(window), guess_(first_guess) {}

  void on_finished(Tokens output);

  // Probability that a request which has emitted `output` of at most `output_max` tokens emits more
  // than `further` others: the share among those remembered that became longer than `output`. If
  // none did, it is expected to become twice as long as it is: an output that outgrew all others is
  // not about to end.
  double goes_beyond(Tokens output, Tokens further, Tokens output_max) const;

  // Mean and largest number of further tokens, by the same rules.
  Tokens remaining(Tokens output, Tokens output_max) const;
  Tokens remaining_max(Tokens output, Tokens output_max) const;

 private:
  std::int64_t guess(std::int64_t output) const;

  std::size_t window_;
  Tokens guess_;
  std::vector<std::int64_t> recent_;  // ring
  std::size_t oldest_ = 0;
  std::vector<std::int64_t> sorted_;
};

}  // namespace pd::policy
