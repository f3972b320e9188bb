#include "engine/kernels/bf16.h"
#include "engine/kernels/reference/reference.h"

namespace pd::engine::reference {
namespace {

// acc[j] += x[k] * w[16 * tile + j][k] for all k, ascending: 16 output features side by side, as
// they are packed. Each is its own chain of additions.
void tile_f32(const float* x, const float* w, std::int64_t columns, float* acc) {
  for (std::int64_t k = 0; k < columns; ++k) {
    for (int j = 0; j < kTileRows; ++j) acc[j] += x[k] * w[k * kTileRows + j];
  }
}

void tile_bf16(const float* x, const std::uint16_t* w, std::int64_t columns, float* acc) {
  for (std::int64_t k = 0; k < columns; ++k) {
    const std::uint16_t* pairs = w + (k / 2) * (2 * kTileRows) + k % 2;
    for (int j = 0; j < kTileRows; ++j) acc[j] += x[k] * from_bf16(pairs[2 * j]);
  }
}

}  // namespace

void linear(const LinearArgs& args, std::int64_t tile_begin, std::int64_t tile_end) {
  const Matrix& w = args.w;
  const std::int64_t even_columns = (w.columns + 1) / 2 * 2;
  for (std::int64_t row = 0; row < args.rows; ++row) {
    const auto* x =
        reinterpret_cast<const float*>(static_cast<const std::byte*>(args.x) + row * args.x_stride);
    for (std::int64_t tile = tile_begin; tile < tile_end; ++tile) {
      float acc[kTileRows] = {};
      if (w.type == WeightType::kF32) {
        tile_f32(x, reinterpret_cast<const float*>(w.data) + tile * w.columns * kTileRows,
                 w.columns, acc);
      } else {
        tile_bf16(x,
                  reinterpret_cast<const std::uint16_t*>(w.data) + tile * even_columns * kTileRows,
                  w.columns, acc);
      }
      for (int j = 0; j < kTileRows; ++j) {
        const std::int64_t n = tile * kTileRows + j;
        if (n >= w.rows) break;
        args.out[row * args.out_stride + n] = args.bias != nullptr ? acc[j] + args.bias[n] : acc[j];
      }
    }
  }
}

}  // namespace pd::engine::reference
