// What a weight file stores, as the rest of the system sees it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pd::model {

// Storage types. The quantised ones hold blocks of 32 values (GGUF's Q8_0, Q4_0, Q4_1).
enum class DType { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1 };

std::string_view to_string(DType dtype);

// Values that are stored together, and the bytes that they take: (1, 4) for f32, (32, 34) for Q8_0.
struct DTypeBlock {
  std::int64_t values = 1;
  std::int64_t bytes = 0;
};
DTypeBlock block_of(DType dtype);

// Shape and type of one tensor; row-major, the last dimension contiguous ([out, in] for a
// projection).
struct TensorInfo {
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
};

std::string to_string(std::span<const std::int64_t> shape);  // "[49152, 576]"

// Bytes of a tensor. nullopt: a dimension below 1, a last dimension that is no multiple of the
// block, no dimension at all, or more than 2^62 bytes.
std::optional<std::int64_t> byte_size(const TensorInfo& info);

// `stored` (whole blocks, any alignment) as f32: exact for F32, F16 and BF16; a quantised value is
// q * d (+ m) with one rounding per operation, as the formats' reference implementation does.
// Sizes that do not belong together are a CHECK.
void widen(DType dtype, std::span<const std::byte> stored, std::span<float> out);

}  // namespace pd::model
