#include <cstring>

#include "engine/kernels/bf16.h"
#include "engine/kernels/reference/reference.h"

namespace pd::engine::reference {

void to_bf16(const float* x, std::int64_t size, std::uint16_t* out) {
  for (std::int64_t i = 0; i < size; ++i) out[i] = round_to_bf16(x[i]);
}

void store_kv(const float* x, std::int64_t size, protocol::KvDType dtype, std::byte* out) {
  if (dtype == protocol::KvDType::kF32) {
    std::memcpy(out, x, static_cast<std::size_t>(size) * sizeof(float));
  } else {
    to_bf16(x, size, reinterpret_cast<std::uint16_t*>(out));
  }
}

}  // namespace pd::engine::reference
