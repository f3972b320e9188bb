// y = x W^T + bias over packed weights.
#pragma once

#include "engine/kernels/cpu/register_block.h"
#include "engine/kernels/kernels.h"

namespace pd::engine {
namespace {

// Steps of k that one pass over the rows takes: 512 x 64 bytes x 4 tiles = 128 KiB of weights,
// which stay in the second-level cache while all rows pass by.
inline constexpr std::int64_t kStepsAtOnce = 512;

// Rows of the block that starts at `row`, of `rows` cut into blocks of nearly equal size.
inline int rows_of_block(std::int64_t rows, std::int64_t block) {
  const std::int64_t blocks = (rows + kBlockRows - 1) / kBlockRows;
  return static_cast<int>(rows / blocks + (block < rows % blocks ? 1 : 0));
}

template <class S, class W>
void linear_over(const LinearArgs& args, std::int64_t tile_begin, std::int64_t tile_end) {
  if (args.rows < 1) return;
  const std::int64_t steps = (args.w.columns + W::kStep - 1) / W::kStep;
  const std::int64_t tile_bytes = steps * 64;
  const std::int64_t blocks = (args.rows + kBlockRows - 1) / kBlockRows;
  // One pass over k when each weight is used by one block only: nothing to keep.
  const std::int64_t steps_at_once = blocks == 1 ? steps : kStepsAtOnce;
  const std::int64_t tiles_at_once = S::tiles(rows_of_block(args.rows, 0));
  for (std::int64_t tile = tile_begin; tile < tile_end; tile += tiles_at_once) {
    const std::int64_t tiles = tile_end - tile < tiles_at_once ? tile_end - tile : tiles_at_once;
    for (std::int64_t k = 0; k < steps; k += steps_at_once) {
      const bool last = k + steps_at_once >= steps;
      BlockArgs block;
      block.w = args.w.data + tile * tile_bytes;
      block.tile_bytes = tile_bytes;
      block.k_begin = k;
      block.k_end = last ? steps : k + steps_at_once;
      block.fresh = k == 0;
      block.columns = args.w.rows - tile * kTileRows;
      block.bias = last && args.bias != nullptr ? args.bias + tile * kTileRows : nullptr;
      std::int64_t row = 0;
      for (std::int64_t b = 0; b < blocks; ++b) {
        const int rows = rows_of_block(args.rows, b);
        for (int r = 0; r < rows; ++r, ++row) {
          block.x[r] = static_cast<const std::byte*>(args.x) + row * args.x_stride;
          block.out[r] = args.out + row * args.out_stride + tile * kTileRows;
        }
        multiply<S, W>(block, rows, tiles);
      }
    }
  }
}

template <class S>
void linear(const LinearArgs& args, std::int64_t tile_begin, std::int64_t tile_end) {
  if (args.w.type == WeightType::kF32)
    return linear_over<S, F32Weights>(args, tile_begin, tile_end);
  linear_over<S, WidenedBf16Weights>(args, tile_begin, tile_end);
}

}  // namespace
}  // namespace pd::engine
