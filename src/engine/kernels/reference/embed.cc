#include "engine/kernels/bf16.h"
#include "engine/kernels/reference/reference.h"

namespace pd::engine::reference {

void embed(const Matrix& table, std::int64_t row, float* out) {
  const std::int64_t tile = row / kTileRows;
  const std::int64_t lane = row % kTileRows;
  if (table.type == WeightType::kF32) {
    const float* from =
        reinterpret_cast<const float*>(table.data) + tile * table.columns * kTileRows + lane;
    for (std::int64_t k = 0; k < table.columns; ++k) out[k] = from[k * kTileRows];
    return;
  }
  const std::int64_t even_columns = (table.columns + 1) / 2 * 2;
  const std::uint16_t* from = reinterpret_cast<const std::uint16_t*>(table.data) +
                              tile * even_columns * kTileRows + 2 * lane;
  for (std::int64_t k = 0; k < table.columns; ++k)
    out[k] = from_bf16(from[(k / 2) * (2 * kTileRows) + k % 2]);
}

}  // namespace pd::engine::reference
