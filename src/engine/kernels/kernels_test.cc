// Every operator of every kernel set against f64, within bounds that follow from the operands.
//
// The model of arithmetic (Higham, Accuracy and Stability, 2.2 and 3.1): each operation returns its
// exact result times 1 + d, |d| <= u = 2^-24; n operations in a row err by at most gamma(n) =
// n u / (1 - n u) of the sum of the magnitudes. bf16 rounding errs by at most 2^-8 of the value.
#include "engine/kernels/kernels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "base/rng.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/kernels_testing.h"

namespace pd::engine {
namespace {

constexpr double kBf16Unit = 0x1p-8;

struct LinearCase {
  std::int64_t rows, outputs, inputs;
  WeightType type;
  bool bias;
};

PackedMatrix random_matrix(Rng& rng, const LinearCase& shape) {
  return {random_values(rng, shape.outputs * shape.inputs), shape.outputs, shape.inputs,
          shape.type};
}

// A product with room around x and out; the room must stay as it was.
class LinearRun {
 public:
  LinearRun(const Kernels& kernels, const LinearCase& shape)
      : kernels_(kernels), shape_(shape), rng_(17), w_(random_matrix(rng_, shape)) {
    x_ = random_values(rng_, shape.rows * x_stride());
    for (std::int64_t r = 0; r < shape.rows; ++r)
      std::fill(x_row(r) + shape.inputs, x_row(r) + x_stride(), 0.0F);
    bias_ = random_values(rng_, shape.outputs);
    out_.assign(static_cast<std::size_t>(shape.rows * out_stride()), kUntouched);
  }

  void compute(std::int64_t first_row, std::int64_t rows, std::int64_t tile_begin,
               std::int64_t tile_end) {
    const bool rounds = kernels_.rounds_activations(shape_.type);
    std::vector<std::uint16_t> rounded(static_cast<std::size_t>(rows * x_stride()));
    for (std::int64_t r = 0; rounds && r < rows; ++r) {
      kernels_.to_bf16(x_row(first_row + r), x_stride(),
                       rounded.data() + static_cast<std::size_t>(r * x_stride()));
    }
    kernels_.linear({.x = rounds ? static_cast<const void*>(rounded.data()) : x_row(first_row),
                     .x_stride = x_stride() * (rounds ? 2 : 4),
                     .w = w_.matrix(),
                     .bias = shape_.bias ? bias_.data() : nullptr,
                     .out = out_.data() + static_cast<std::size_t>(first_row * out_stride()),
                     .out_stride = out_stride(),
                     .rows = rows},
                    tile_begin, tile_end);
  }

  void expect_within_bound() {
    const bool rounds = kernels_.rounds_activations(shape_.type);
    for (std::int64_t r = 0; r < shape_.rows; ++r) {
      for (std::int64_t n = 0; n < shape_.outputs; ++n) {
        double exact = 0.0;
        double magnitude = 0.0;
        for (std::int64_t k = 0; k < shape_.inputs; ++k) {
          const double product = double{x_row(r)[k]} * w_.at(n, k);
          exact += product;
          magnitude += std::abs(product);
        }
        const double bias = shape_.bias ? bias_[static_cast<std::size_t>(n)] : 0.0;
        // One product and one addition per k, the bias, and rounding x before it all.
        const double relative = gamma(2 * shape_.inputs + 1) + (rounds ? kBf16Unit : 0.0);
        const double bound =
            relative * magnitude * (1 + kBf16Unit) + kUnit * std::abs(exact + bias);
        ASSERT_LE(std::abs(value(r, n) - (exact + bias)), bound)
            << kernels_.name << ": row " << r << ", output " << n << " of " << shape_.rows << " x "
            << shape_.outputs << " x " << shape_.inputs;
      }
      for (std::int64_t n = shape_.outputs; n < out_stride(); ++n)
        ASSERT_EQ(value(r, n), kUntouched);
    }
  }

  std::int64_t tiles() const { return (shape_.outputs + kTileRows - 1) / kTileRows; }
  const std::vector<float>& out() const { return out_; }

 private:
  static constexpr float kUntouched = -12345.0F;
  std::int64_t x_stride() const { return (shape_.inputs + 1) / 2 * 2 + 6; }
  std::int64_t out_stride() const { return shape_.outputs + 3; }
  float* x_row(std::int64_t r) { return x_.data() + r * x_stride(); }
  float value(std::int64_t r, std::int64_t n) const {
    return out_[static_cast<std::size_t>(r * out_stride() + n)];
  }

  const Kernels& kernels_;
  const LinearCase shape_;
  Rng rng_;
  PackedMatrix w_;
  std::vector<float> x_, bias_, out_;
};

std::vector<LinearCase> linear_cases() {
  std::vector<LinearCase> out;
  for (const WeightType type : {WeightType::kF32, WeightType::kBF16}) {
    // All numbers of rows of a register block and around; tails of tiles and of k.
    for (std::int64_t rows = 1; rows <= 14; ++rows)
      out.push_back({rows, 70, 33, type, rows % 2 == 0});
    for (const std::int64_t outputs : {1, 15, 16, 17, 127, 128, 129, 200})
      out.push_back({3, outputs, 48, type, true});
    // 511 to 1026: around the steps of k that are kept in the cache, in either type.
    for (const std::int64_t inputs : {1, 2, 3, 16, 511, 512, 513, 1023, 1024, 1026})
      out.push_back({7, 40, inputs, type, false});
  }
  return out;
}

TEST(Linear, IsWithinTheBoundOfItsOperands) {
  for (const Kernels* kernels : kernels_of_this_machine()) {
    for (const LinearCase& shape : linear_cases()) {
      LinearRun run(*kernels, shape);
      run.compute(0, shape.rows, 0, run.tiles());
      run.expect_within_bound();
    }
  }
}

TEST(Linear, GivesTheSameBitsHoweverRowsAndTilesAreSplit) {
  for (const Kernels* kernels : kernels_of_this_machine()) {
    for (const LinearCase& shape : linear_cases()) {
      LinearRun whole(*kernels, shape);
      whole.compute(0, shape.rows, 0, whole.tiles());
      for (const std::int64_t rows_at_once : {1, 2, 5}) {
        LinearRun split(*kernels, shape);
        for (std::int64_t row = 0; row < shape.rows; row += rows_at_once) {
          for (std::int64_t tile = 0; tile < split.tiles(); tile += rows_at_once) {
            split.compute(row, std::min(rows_at_once, shape.rows - row), tile,
                          std::min(tile + rows_at_once, split.tiles()));
          }
        }
        ASSERT_TRUE(same_bits(whole.out(), split.out())) << kernels->name;
      }
    }
  }
}

TEST(RmsNorm, IsWithinTheBoundOfItsOperands) {
  Rng rng(3);
  for (const Kernels* kernels : kernels_of_this_machine()) {
    for (const std::int64_t size : {1, 7, 16, 31, 64, 576, 4097}) {
      const std::vector<float> x = random_values(rng, size);
      const std::vector<float> weight = random_values(rng, size);
      std::vector<float> out(static_cast<std::size_t>(size) + 1, 77.0F);
      constexpr float kEps = 1e-5F;
      kernels->rms_norm(x.data(), weight.data(), kEps, size, out.data());
      double squares = 0.0;
      for (const float v : x) squares += double{v} * v;
      const double inverse = 1 / std::sqrt(squares / static_cast<double>(size) + kEps);
      // Half the error of the mean (its root), root, quotient, and two products.
      const double bound = gamma(size / 16 + 8) / 2 + gamma(4);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double exact = double{weight[i]} * x[i] * inverse;
        ASSERT_LE(std::abs(out[i] - exact), bound * std::abs(exact))
            << kernels->name << ' ' << size;
      }
      EXPECT_EQ(out.back(), 77.0F);
      // In place, as q and k are normed.
      std::vector<float> in_place = x;
      kernels->rms_norm(in_place.data(), weight.data(), kEps, size, in_place.data());
      out.pop_back();
      EXPECT_TRUE(same_bits(in_place, out)) << kernels->name;
    }
  }
}

TEST(Rope, RotatesPairsHalfAHeadApart) {
  Rng rng(4);
  for (const Kernels* kernels : kernels_of_this_machine()) {
    for (const int dim : {2, 8, 64, 96}) {
      constexpr int kHeads = 3;
      const std::vector<float> x = random_values(rng, kHeads * dim);
      std::vector<float> cos, sin;
      for (int i = 0; i < dim / 2; ++i) {
        cos.push_back(std::cos(static_cast<float>(i) * 0.7F));
        sin.push_back(std::sin(static_cast<float>(i) * 0.7F));
      }
      std::vector<float> out = x;
      kernels->rope(out.data(), cos.data(), sin.data(), dim, kHeads);
      for (int at = 0; at < kHeads * dim; at += dim) {
        for (int i = 0; i < dim / 2; ++i) {
          const auto low = static_cast<std::size_t>(at + i);
          const auto high = static_cast<std::size_t>(at + i + dim / 2);
          const auto pair = static_cast<std::size_t>(i);
          const double a = x[low], b = x[high], c = cos[pair], s = sin[pair];
          const double bound = gamma(2) * (std::abs(a) + std::abs(b));
          ASSERT_LE(std::abs(out[low] - (a * c - b * s)), bound);
          ASSERT_LE(std::abs(out[high] - (b * c + a * s)), bound);
        }
      }
    }
  }
}

TEST(SiluMul, IsWithinTheBoundOfItsOperands) {
  Rng rng(5);
  for (const Kernels* kernels : kernels_of_this_machine()) {
    for (const std::int64_t size : {1, 15, 16, 17, 1000}) {
      std::vector<float> gate = random_values(rng, size);
      for (float& g : gate) g *= 30.0F;
      gate[0] = -200.0F;  // e^200 is infinite in f32, the result is not
      const std::vector<float> up = random_values(rng, size);
      std::vector<float> out(gate.size() + 1, 77.0F);
      kernels->silu_mul(gate.data(), up.data(), size, out.data());
      for (std::size_t i = 0; i < gate.size(); ++i) {
        const double exact = gate[i] / (1 + std::exp(-double{gate[i]})) * up[i];
        // e^x to 2 units in the last place, then sum, quotient, product. Results below the normal
        // range of e^x may become 0.
        ASSERT_LE(std::abs(out[i] - exact), gamma(8) * std::abs(exact) + 1e-36)
            << kernels->name << ": gate " << gate[i];
      }
      EXPECT_EQ(out.back(), 77.0F);
    }
  }
}

TEST(SiluMul, PassesNanOn) {
  for (const Kernels* kernels : kernels_of_this_machine()) {
    const float gate[2] = {NAN, 1.0F};
    const float up[2] = {1.0F, NAN};
    float out[2] = {};
    kernels->silu_mul(gate, up, 2, out);
    EXPECT_TRUE(std::isnan(out[0])) << kernels->name;
    EXPECT_TRUE(std::isnan(out[1])) << kernels->name;
  }
}

TEST(Add, AddsExactlyOnce) {
  Rng rng(6);
  for (const Kernels* kernels : kernels_of_this_machine()) {
    const std::vector<float> x = random_values(rng, 37);
    const std::vector<float> y = random_values(rng, 37);
    std::vector<float> out = y;
    kernels->add(x.data(), 37, out.data());
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(out[i], x[i] + y[i]);
  }
}

TEST(Embed, ReadsARowOfThePackedMatrix) {
  Rng rng(7);
  for (const Kernels* kernels : kernels_of_this_machine()) {
    for (const WeightType type : {WeightType::kF32, WeightType::kBF16}) {
      const PackedMatrix table = random_matrix(rng, {0, 35, 21, type, false});
      for (std::int64_t row = 0; row < 35; ++row) {
        std::vector<float> out(21);
        kernels->embed(table.matrix(), row, out.data());
        for (std::int64_t k = 0; k < 21; ++k)
          ASSERT_EQ(out[static_cast<std::size_t>(k)], table.at(row, k));
      }
    }
  }
}

TEST(StoreKv, RoundsToNearestEven) {
  const auto f32 = [](std::uint32_t bits) { return std::bit_cast<float>(bits); };
  const std::vector<float> x = {f32(0x3F800000), f32(0x3F808000), f32(0x3F818000),  // ties
                                f32(0x3F807FFF), f32(0x3F808001), f32(0xBF818000),
                                f32(0x7F7FFFFF), f32(0x7F800000), f32(0xFF800000),
                                f32(0x00000001), f32(0x80000000), f32(0x7F800001)};
  const std::vector<std::uint16_t> expected = {0x3F80, 0x3F80, 0x3F82, 0x3F80, 0x3F81, 0xBF82,
                                               0x7F80, 0x7F80, 0xFF80, 0x0000, 0x8000, 0x7FC0};
  for (const Kernels* kernels : kernels_of_this_machine()) {
    std::vector<std::uint16_t> out(x.size());
    kernels->store_kv(x.data(), static_cast<std::int64_t>(x.size()), protocol::KvDType::kBF16,
                      reinterpret_cast<std::byte*>(out.data()));
    EXPECT_EQ(out, expected) << kernels->name;
    std::vector<float> copy(x.size());
    kernels->store_kv(x.data(), static_cast<std::int64_t>(x.size()), protocol::KvDType::kF32,
                      reinterpret_cast<std::byte*>(copy.data()));
    EXPECT_TRUE(same_bits(x, copy)) << kernels->name;
  }
}

TEST(ToBf16, RoundsNormalNumbersAsStoreKvDoes) {
  Rng rng(8);
  for (const Kernels* kernels : kernels_of_this_machine()) {
    for (const std::int64_t size : {2, 14, 16, 18, 64, 1000}) {
      const std::vector<float> x = random_values(rng, size);
      std::vector<std::uint16_t> out(x.size() + 1, 0x1234);
      kernels->to_bf16(x.data(), size, out.data());
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(out[i], round_to_bf16(x[i]));
      EXPECT_EQ(out.back(), 0x1234);
    }
  }
}

TEST(SelectKernels, AutoIsTheLastOfTheAvailable) {
  const auto chosen = select_kernels("auto");
  ASSERT_TRUE(chosen.has_value());
  EXPECT_THAT(available_kernels(), testing::EndsWith(std::string((*chosen)->name)));
  EXPECT_THAT(available_kernels(), testing::StartsWith("reference"));
}

TEST(SelectKernels, NamesTheChoicesWhenThereIsNoSuchSet) {
  const auto chosen = select_kernels("avx9000");
  ASSERT_FALSE(chosen.has_value());
  EXPECT_EQ(chosen.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(chosen.error().message, testing::HasSubstr("avx9000"));
  EXPECT_THAT(chosen.error().message, testing::HasSubstr(available_kernels()));
}

}  // namespace
}  // namespace pd::engine
