// What a weight file stores, as the rest of the system sees it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace pd::model {

// Storage types. The quantised ones hold blocks of 32 values (GGUF's Q8_0, Q4_0, Q4_1).
enum class DType { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1 };

std::string_view to_string(DType dtype);

// Shape and type of one tensor; row-major, the last dimension contiguous ([out, in] for a
// projection).
struct TensorInfo {
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
};

}  // namespace pd::model
