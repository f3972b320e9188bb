#include "engine/kernels/reference/reference.h"

namespace pd::engine::reference {

void rope(float* x, const float* cos, const float* sin, int head_dim, int heads) {
  const int half = head_dim / 2;
  for (int head = 0; head < heads; ++head, x += head_dim) {
    for (int i = 0; i < half; ++i) {
      const float a = x[i];
      const float b = x[i + half];
      x[i] = a * cos[i] - b * sin[i];
      x[i + half] = b * cos[i] + a * sin[i];
    }
  }
}

}  // namespace pd::engine::reference
