#include "model/tensor.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/rng.h"

namespace pd::model {
namespace {

template <typename T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> out(values.size() * sizeof(T));
  std::memcpy(out.data(), values.data(), out.size());
  return out;
}

// By the definition in IEEE 754, with arithmetic that cannot round.
float half_by_definition(std::uint16_t bits) {
  const float sign = (bits & 0x8000) != 0 ? -1.0F : 1.0F;
  const int exponent = (bits >> 10) & 31;
  const float fraction = static_cast<float>(bits & 1023);
  if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024.0F + fraction, exponent - 25);
}

TEST(Widen, EveryHalfFloatIsExact) {
  std::vector<std::uint16_t> halves(65536);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  std::vector<float> out(halves.size());
  widen(DType::kF16, bytes_of(halves), out);
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const float expected = half_by_definition(halves[i]);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(out[i])) << i;
    } else {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(out[i]), std::bit_cast<std::uint32_t>(expected)) << i;
    }
  }
}

TEST(Widen, BrainFloatsAreTheUpperHalf) {
  std::vector<float> out(3);
  widen(DType::kBF16, bytes_of(std::vector<std::uint16_t>{0x3F80, 0xC049, 0x0001}), out);
  EXPECT_EQ(out[0], 1.0F);
  EXPECT_EQ(out[1], -3.140625F);
  EXPECT_EQ(out[2], std::bit_cast<float>(std::uint32_t{0x00010000}));
}

TEST(Widen, ReadsUnalignedFloats) {
  std::vector<std::byte> raw(1);
  const auto floats = bytes_of(std::vector<float>{1.5F, -2.25F});
  raw.insert(raw.end(), floats.begin(), floats.end());
  std::vector<float> out(2);
  widen(DType::kF32, std::span(raw).subspan(1), out);
  EXPECT_EQ(out, (std::vector<float>{1.5F, -2.25F}));
}

// d = 0.5 (0x3800), m = -1 (0xBC00); byte i holds nibbles low = i, high = 15 - i.
std::vector<std::byte> block_header(std::initializer_list<std::uint16_t> halves) {
  return bytes_of(std::vector<std::uint16_t>(halves));
}

TEST(Widen, Q8_0) {
  auto block = block_header({0x3800});
  for (int i = 0; i < 32; ++i) block.push_back(static_cast<std::byte>(i * 8 - 128));
  std::vector<float> out(32);
  widen(DType::kQ8_0, block, out);
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(out[static_cast<std::size_t>(i)], 0.5F * static_cast<float>(i * 8 - 128));
  }
}

TEST(Widen, Q4_0AndQ4_1SplitLowAndHighNibbles) {
  auto q4_0 = block_header({0x3800});
  auto q4_1 = block_header({0x3800, 0xBC00});
  for (int i = 0; i < 16; ++i) {
    q4_0.push_back(static_cast<std::byte>(((15 - i) << 4) | i));
    q4_1.push_back(static_cast<std::byte>(((15 - i) << 4) | i));
  }
  std::vector<float> a(32);
  std::vector<float> b(32);
  widen(DType::kQ4_0, q4_0, a);
  widen(DType::kQ4_1, q4_1, b);
  for (int i = 0; i < 16; ++i) {
    const auto at = static_cast<std::size_t>(i);
    EXPECT_EQ(a[at], 0.5F * static_cast<float>(i - 8));
    EXPECT_EQ(a[at + 16], 0.5F * static_cast<float>(7 - i));
    EXPECT_EQ(b[at], 0.5F * static_cast<float>(i) - 1.0F);
    EXPECT_EQ(b[at + 16], 0.5F * static_cast<float>(15 - i) - 1.0F);
  }
}

TEST(Widen, SeveralBlocksEqualBlockByBlock) {
  Rng rng(7);
  for (const DType dtype : {DType::kQ8_0, DType::kQ4_0, DType::kQ4_1}) {
    const auto block = static_cast<std::size_t>(block_of(dtype).bytes);
    std::vector<std::byte> stored(block * 5);
    for (std::byte& b : stored) b = static_cast<std::byte>(rng.below(100));
    std::vector<float> whole(32 * 5);
    widen(dtype, stored, whole);
    for (std::size_t i = 0; i < 5; ++i) {
      std::vector<float> part(32);
      widen(dtype, std::span(stored).subspan(i * block, block), part);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + static_cast<int>(32 * i)))
          << to_string(dtype);
    }
  }
}

TEST(ByteSize, CountsBlocksAndRefusesWhatDoesNotFit) {
  const auto size = [](DType dtype, std::vector<std::int64_t> shape) {
    return byte_size({dtype, std::move(shape)});
  };
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(size(DType::kF32, {3, 5}), 60);
  EXPECT_EQ(size(DType::kBF16, {7}), 14);
  EXPECT_EQ(size(DType::kQ4_1, {2, 64}), 80);
  EXPECT_EQ(size(DType::kQ4_1, {2, 48}), std::nullopt);
  EXPECT_EQ(size(DType::kF32, {}), std::nullopt);
  EXPECT_EQ(size(DType::kF32, {0, 4}), std::nullopt);
  EXPECT_EQ(size(DType::kF32, {4, -1}), std::nullopt);
  EXPECT_EQ(size(DType::kF32, {kHuge}), std::nullopt);
  EXPECT_EQ(size(DType::kF16, {kHuge, 2}), std::nullopt);
  EXPECT_EQ(size(DType::kQ8_0, {1LL << 40, 1LL << 30}), std::nullopt);
}

}  // namespace
}  // namespace pd::model
