// How long outputs become, learned from finished requests: what D must keep free for the requests
// it has accepted (G15). Pure.
#pragma once

#include <cstddef>
#include <vector>

#include "base/units.h"

namespace pd::policy {

struct GrowthOptions {
  std::size_t window = 256;  // finished requests remembered: a shift of the load shows in minutes
  Tokens first_guess{256};   // output length before anything has finished
  double margin = 1.25;      // reserve over the expectation
};

class GrowthModel {
 public:
  explicit GrowthModel(const GrowthOptions& options) : options_(options) {}

  void on_finished(Tokens output);

  // Further tokens to keep room for, for a request that has emitted `output` of at most
  // `output_max`: the mean remainder of those remembered outputs that became longer than `output`,
  // times the margin. If none did, it is expected to become twice as long as it is: an output that
  // outgrew all others is not about to end.
  Tokens remaining(Tokens output, Tokens output_max) const;

 private:
  GrowthOptions options_;
  std::vector<std::int64_t> recent_;  // ring
  std::size_t oldest_ = 0;
  std::vector<std::int64_t> sorted_;
};

}  // namespace pd::policy
