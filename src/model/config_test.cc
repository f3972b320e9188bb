#include "model/config.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdlib>
#include <span>

namespace pd::model {
namespace {

std::int32_t ulps(float a, float b) {
  return std::abs(std::bit_cast<std::int32_t>(a) - std::bit_cast<std::int32_t>(b));
}

// Two units in the last place: one for torch's own power function, one that the steps after it add.
void expect_close(const ModelConfig& config, std::span<const float> expected) {
  const std::vector<float> got = rope_frequencies(config);
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_LE(ulps(got[i], expected[i]), 2) << "pair " << i << ": " << got[i];
  }
}

// Expected values: ROPE_INIT_FUNCTIONS of transformers 5.23 with torch 2.15, f32.
TEST(RopeFrequencies, Llama3ScalingMatchesTransformers) {
  ModelConfig config;
  config.head_dim = 64;
  config.rope_theta = 500000.0;
  config.rope_scaling = {RopeScaling::Kind::kLlama3, 8.0, 1.0, 4.0, 8192, {}};
  const float expected[] = {0x1p+0F,         0x1.53c38cp-1F,  0x1.c2ef78p-2F,  0x1.2b3dc6p-2F,
                            0x1.8d276p-3F,   0x1.078d4p-3F,   0x1.5dc95ap-4F,  0x1.d03ccep-5F,
                            0x1.34119p-5F,   0x1.98de92p-6F,  0x1.0f5386p-6F,  0x1.681adap-7F,
                            0x1.ddee9ep-8F,  0x1.3d2804p-8F,  0x1.a4ee4p-9F,   0x1.67a23ap-10F,
                            0x1.132ba4p-11F, 0x1.765ba4p-13F, 0x1.46831ap-14F, 0x1.b15902p-15F,
                            0x1.1f91fp-15F,  0x1.7da9e8p-16F, 0x1.fa8b86p-17F, 0x1.5024d6p-17F,
                            0x1.be2188p-18F, 0x1.280d96p-18F, 0x1.88ec2p-19F,  0x1.04be68p-19F,
                            0x1.5a0f4ep-20F, 0x1.cb4a9ap-21F, 0x1.30c94ep-21F, 0x1.94836p-22F};
  expect_close(config, expected);
}

TEST(RopeFrequencies, LinearScalingMatchesTransformersForAnOddHeadSize) {
  ModelConfig config;
  config.head_dim = 24;
  config.rope_scaling.kind = RopeScaling::Kind::kLinear;
  config.rope_scaling.factor = 4.0;
  const float expected[] = {0x1p-2F,         0x1.db4c78p-4F,  0x1.b93a6ap-5F,  0x1.99999ap-6F,
                            0x1.7c3d2ap-7F,  0x1.60fb8cp-8F,  0x1.47ae14p-9F,  0x1.3030f4p-10F,
                            0x1.1a62d2p-11F, 0x1.0624dep-12F, 0x1.e6b4b8p-14F, 0x1.c3d14ep-15F};
  expect_close(config, expected);
}

TEST(RopeFrequencies, UnscaledMatchesTransformers) {
  ModelConfig config;
  config.head_dim = 24;
  config.rope_theta = 1000000.0;
  const float expected[] = {0x1p+0F,         0x1.43d136p-2F,  0x1.999998p-4F,  0x1.030dc6p-5F,
                            0x1.47ae12p-7F,  0x1.9e7c72p-9F,  0x1.0624dep-10F, 0x1.4b96c4p-12F,
                            0x1.a36e26p-14F, 0x1.094564p-15F, 0x1.4f8b6p-17F,  0x1.a86f02p-19F};
  expect_close(config, expected);
}

TEST(RopeFrequencies, FactorsDivideEachFrequency) {
  ModelConfig config;
  config.head_dim = 4;
  config.rope_scaling.kind = RopeScaling::Kind::kFactors;
  config.rope_scaling.factors = {1.0F, 8.0F};
  const float expected[] = {1.0F, 0.01F / 8.0F};
  expect_close(config, expected);
}

}  // namespace
}  // namespace pd::model
