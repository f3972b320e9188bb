// Bounds of what a configuration may claim. Generous against real models, small enough that no
// product of two of them overflows and that a lying file cannot make us list millions of tensors.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "model/config.h"

namespace pd::model {

inline constexpr std::int64_t kLayersMax = 1024;
inline constexpr std::int64_t kHiddenMax = std::int64_t{1} << 20;
inline constexpr std::int64_t kIntermediateMax = std::int64_t{1} << 22;
inline constexpr std::int64_t kHeadsMax = 4096;
inline constexpr std::int64_t kHeadDimMax = 4096;
inline constexpr std::int64_t kVocabMax = std::int64_t{1} << 24;
inline constexpr std::int64_t kContextMax = std::int64_t{1} << 30;
// Exclusive. Inside them every RoPE frequency is a finite f32.
inline constexpr double kRopeThetaMin = 1;
inline constexpr double kRopeThetaMax = 1e12;
inline constexpr double kRopeFactorMin = 1e-3;
inline constexpr double kRopeFactorMax = 1e6;

// What the fields are called in the file that they come from, for messages.
struct ConfigFieldNames {
  std::string_view heads;
  std::string_view kv_heads;
  std::string_view head_dim;
};

// Relations between fields, each already in its range: kv_heads divides heads, head_dim is even.
// Errors (kUnsupported) begin with `file`.
Status check_relations(const ModelConfig& config, const ConfigFieldNames& names,
                       std::string_view file);

}  // namespace pd::model
