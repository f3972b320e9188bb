#include <cmath>

#include "engine/kernels/reference/reference.h"

namespace pd::engine::reference {

void rms_norm(const float* x, const float* weight, float eps, std::int64_t size, float* out) {
  double squares = 0.0;
  for (std::int64_t i = 0; i < size; ++i) squares += double{x[i]} * x[i];
  const auto inverse =
      static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(size) + double{eps}));
  for (std::int64_t i = 0; i < size; ++i) out[i] = weight[i] * (x[i] * inverse);
}

}  // namespace pd::engine::reference
