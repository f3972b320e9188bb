#include "engine/kernels/reference/reference.h"

namespace pd::engine::reference {

void silu_mul(const float* gate, const float* up, std::int64_t size, float* out) {
  for (std::int64_t i = 0; i < size; ++i) {
    const auto silu = static_cast<float>(gate[i] / (1.0 + exponential(-double{gate[i]})));
    out[i] = silu * up[i];
  }
}

}  // namespace pd::engine::reference
