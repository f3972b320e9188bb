#include "model/tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>
#include <cstring>
#include <limits>

#include "base/check.h"

namespace pd::model {
namespace {

constexpr std::int64_t kQuantBlock = 32;

std::uint16_t load_u16(const std::byte* p) {
  std::uint16_t v = 0;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// Moves the half's bits to where a float has them and corrects the exponent bias (127 - 15 = 112)
// by an exact multiplication, which also normalises subnormals; infinities and NaNs then get all
// exponent bits. No branch and signed compares, so that the compiler vectorises it with SSE2.
float from_f16(std::uint16_t half) {
  const std::int32_t magnitude = half & 0x7FFF;
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112F;
  const std::int32_t special = magnitude > 0x7BFF ? 0x7F800000 : 0;
  const std::uint32_t sign = (half & 0x8000U) << 16;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) |
                              static_cast<std::uint32_t>(special) | sign);
}

void widen_f16(const std::byte* in, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = from_f16(load_u16(in + 2 * i));
}

void widen_bf16(const std::byte* in, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = std::bit_cast<float>(static_cast<std::uint32_t>(load_u16(in + 2 * i)) << 16);
  }
}

// Block: f16 d, 32 x i8 q. Value: q * d.
void widen_q8_0(const std::byte* in, std::span<float> out) {
  for (std::size_t at = 0; at < out.size(); at += kQuantBlock, in += 34) {
    const float d = from_f16(load_u16(in));
    for (std::size_t i = 0; i < kQuantBlock; ++i) {
      out[at + i] = static_cast<float>(static_cast<std::int8_t>(in[2 + i])) * d;
    }
  }
}

// Block: f16 d, 16 bytes; low nibbles are values 0..15, high nibbles 16..31. Value: (q - 8) * d.
void widen_q4_0(const std::byte* in, std::span<float> out) {
  for (std::size_t at = 0; at < out.size(); at += kQuantBlock, in += 18) {
    const float d = from_f16(load_u16(in));
    for (std::size_t i = 0; i < 16; ++i) {
      const int q = std::to_integer<int>(in[2 + i]);
      out[at + i] = static_cast<float>((q & 15) - 8) * d;
      out[at + 16 + i] = static_cast<float>((q >> 4) - 8) * d;
    }
  }
}

// Block: f16 d, f16 m, 16 bytes as in Q4_0. Value: q * d + m.
void widen_q4_1(const std::byte* in, std::span<float> out) {
  for (std::size_t at = 0; at < out.size(); at += kQuantBlock, in += 20) {
    const float d = from_f16(load_u16(in));
    const float m = from_f16(load_u16(in + 2));
    for (std::size_t i = 0; i < 16; ++i) {
      const int q = std::to_integer<int>(in[4 + i]);
      out[at + i] = static_cast<float>(q & 15) * d + m;
      out[at + 16 + i] = static_cast<float>(q >> 4) * d + m;
    }
  }
}

}  // namespace

std::string_view to_string(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    case DType::kQ8_0:
      return "Q8_0";
    case DType::kQ4_0:
      return "Q4_0";
    case DType::kQ4_1:
      return "Q4_1";
  }
  return "?";
}

DTypeBlock block_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {1, 4};
    case DType::kF16:
    case DType::kBF16:
      return {1, 2};
    case DType::kQ8_0:
      return {kQuantBlock, 34};
    case DType::kQ4_0:
      return {kQuantBlock, 18};
    case DType::kQ4_1:
      return {kQuantBlock, 20};
  }
  return {1, 4};
}

std::string to_string(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::optional<std::int64_t> byte_size(const TensorInfo& info) {
  if (info.shape.empty()) return std::nullopt;
  const DTypeBlock block = block_of(info.dtype);
  const std::int64_t last = info.shape.back();
  if (last < 1 || last % block.values != 0) return std::nullopt;
  constexpr std::int64_t kBytesMax = std::int64_t{1} << 62;
  std::int64_t bytes = last / block.values;
  if (bytes > kBytesMax / block.bytes) return std::nullopt;
  bytes *= block.bytes;
  for (std::size_t i = 0; i + 1 < info.shape.size(); ++i) {
    const std::int64_t dim = info.shape[i];
    if (dim < 1 || bytes > kBytesMax / dim) return std::nullopt;
    bytes *= dim;
  }
  return bytes;
}

void widen(DType dtype, std::span<const std::byte> stored, std::span<float> out) {
  const DTypeBlock block = block_of(dtype);
  const std::int64_t values = static_cast<std::int64_t>(out.size());
  CHECK(values % block.values == 0);
  CHECK(static_cast<std::int64_t>(stored.size()) == values / block.values * block.bytes);
  switch (dtype) {
    case DType::kF32:
      if (!out.empty()) std::memcpy(out.data(), stored.data(), stored.size());
      return;
    case DType::kF16:
      return widen_f16(stored.data(), out);
    case DType::kBF16:
      return widen_bf16(stored.data(), out);
    case DType::kQ8_0:
      return widen_q8_0(stored.data(), out);
    case DType::kQ4_0:
      return widen_q4_0(stored.data(), out);
    case DType::kQ4_1:
      return widen_q4_1(stored.data(), out);
  }
}

}  // namespace pd::model
