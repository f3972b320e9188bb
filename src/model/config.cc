#include "model/config.h"

#include <cmath>
#include <numbers>

#include "base/check.h"

namespace pd::model {
namespace {

// 1 / theta^(2i / head_dim). The exponent and the reciprocal are rounded to f32 as the original
// does; the power is taken in f64, so that it is the correctly rounded f32 on every machine.
float base_frequency(double theta, int pair, int head_dim) {
  const float exponent = static_cast<float>(2 * pair) / static_cast<float>(head_dim);
  const float power = static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
  return 1.0F / power;
}

// Long wavelengths are stretched by `factor`, short ones stay, those between are interpolated.
float llama3_scaled(float frequency, const RopeScaling& scaling) {
  const double context = static_cast<double>(scaling.original_context);
  const float factor = static_cast<float>(scaling.factor);
  const float low = static_cast<float>(scaling.low_freq_factor);
  const float wavelength = (1.0F / frequency) * static_cast<float>(2 * std::numbers::pi);
  if (wavelength < static_cast<float>(context / scaling.high_freq_factor)) return frequency;
  if (wavelength > static_cast<float>(context / scaling.low_freq_factor)) return frequency / factor;
  const float turns = (1.0F / wavelength) * static_cast<float>(context);
  const float smooth =
      (turns - low) / static_cast<float>(scaling.high_freq_factor - scaling.low_freq_factor);
  return (1.0F - smooth) * frequency / factor + smooth * frequency;
}

}  // namespace

std::vector<float> rope_frequencies(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  const int pairs = config.head_dim / 2;
  CHECK(scaling.kind != RopeScaling::Kind::kFactors ||
        scaling.factors.size() == static_cast<std::size_t>(pairs));
  std::vector<float> out;
  out.reserve(static_cast<std::size_t>(pairs));
  for (int i = 0; i < pairs; ++i) {
    float frequency = base_frequency(config.rope_theta, i, config.head_dim);
    switch (scaling.kind) {
      case RopeScaling::Kind::kNone:
        break;
      case RopeScaling::Kind::kLinear:
        frequency /= static_cast<float>(scaling.factor);
        break;
      case RopeScaling::Kind::kLlama3:
        frequency = llama3_scaled(frequency, scaling);
        break;
      case RopeScaling::Kind::kFactors:
        frequency /= scaling.factors[static_cast<std::size_t>(i)];
        break;
    }
    out.push_back(frequency);
  }
  return out;
}

}  // namespace pd::model
