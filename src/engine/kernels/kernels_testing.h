// Random operands and the model of rounding, for tests of kernels.
#pragma once

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "base/rng.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/kernels.h"

namespace pd::engine {

inline constexpr double kUnit = 0x1p-24;  // half the distance from 1 to the next f32

inline double gamma(std::int64_t operations) {
  const double n = static_cast<double>(operations) * kUnit;
  return n / (1 - n);
}

inline std::vector<const Kernels*> kernels_of_this_machine() {
  std::vector<const Kernels*> out;
  for (const char* name : {"reference", "avx2", "avx512", "avx512_bf16"}) {
    if (const auto kernels = select_kernels(name)) out.push_back(*kernels);
  }
  return out;
}

// In [-1, 1), now and then a thousand times smaller or larger: cancellation and absorption.
inline std::vector<float> random_values(Rng& rng, std::int64_t count) {
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& value : out) {
    value = static_cast<float>(2 * rng.unit() - 1);
    if (rng.below(16) == 0) value *= rng.below(2) == 0 ? 1e-3F : 1e3F;
  }
  return out;
}

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i])) return false;
  }
  return true;
}

// A matrix packed one value at a time, as kernels.h says.
class PackedMatrix {
 public:
  PackedMatrix(std::span<const float> values, std::int64_t rows, std::int64_t columns,
               WeightType type)
      : rows_(rows), columns_(columns), type_(type) {
    const std::int64_t tiles = (rows + kTileRows - 1) / kTileRows;
    const auto bytes = static_cast<std::size_t>(tiles * tile_bytes());
    data_.reset(static_cast<std::byte*>(std::aligned_alloc(64, bytes)));
    std::fill_n(data_.get(), bytes, std::byte{0});
    for (std::int64_t n = 0; n < rows; ++n) {
      for (std::int64_t k = 0; k < columns; ++k) {
        const float value = values[static_cast<std::size_t>(n * columns + k)];
        if (type == WeightType::kF32) {
          *reinterpret_cast<float*>(place(n, k)) = value;
        } else {
          *reinterpret_cast<std::uint16_t*>(place(n, k)) = round_to_bf16(value);
        }
      }
    }
  }
  float at(std::int64_t n, std::int64_t k) const {
    return type_ == WeightType::kF32 ? *reinterpret_cast<const float*>(place(n, k))
                                     : from_bf16(*reinterpret_cast<std::uint16_t*>(place(n, k)));
  }
  Matrix matrix() const { return {data_.get(), type_, rows_, columns_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::int64_t tile_bytes() const {
    return type_ == WeightType::kF32 ? columns_ * 64 : (columns_ + 1) / 2 * 64;
  }
  std::byte* place(std::int64_t n, std::int64_t k) const {
    std::byte* tile = data_.get() + n / kTileRows * tile_bytes();
    if (type_ == WeightType::kF32) return tile + k * 64 + n % kTileRows * 4;
    return tile + k / 2 * 64 + n % kTileRows * 4 + k % 2 * 2;
  }
  std::int64_t rows_, columns_;
  WeightType type_;
  std::unique_ptr<std::byte[], Free> data_;
};

}  // namespace pd::engine
