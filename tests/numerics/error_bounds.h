// What a correct engine's errors may be: the table tests/data/reference/errors.md, whose derivation
// is in the README beside it.
#pragma once

#include <string>
#include <string_view>

namespace pd::numerics {

// Errors of a program, each as a share of the row's largest logit.
struct Errors {
  double max = 0.0;     // over all rows, of a row's largest difference
  double median = 0.0;  // over all rows, likewise
  double rms = 0.0;     // over all logits
};

struct ProgramErrors : Errors {
  double flip_share = 0.0;  // of the greedy steps, fed with the stored tokens
  double gap = 0.0;         // largest stored gap at a flip / largest logit
};

// The row of `model` and `program`. A missing row fails the test.
ProgramErrors errors_of(std::string_view model, std::string_view program);

// Bounds for kernels that compute in f32, and for kernels that round what `program` rounds.
Errors f32_bound(std::string_view model);
Errors bf16_bound(std::string_view model, std::string_view program);

}  // namespace pd::numerics
