// tests/data/reference/NAME.safetensors, as its README describes it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/units.h"
#include "model/checkpoint/safetensors.h"

namespace pd::numerics {

struct LogitsRow {
  std::size_t prompt = 0;
  std::int64_t position = 0;
  std::span<const TokenId> ids;  // of `values`; empty: the whole vocabulary in order
  std::span<const float> values;
  float max_abs = 0.0F;  // over the whole row
};

struct GreedyPrompt {
  std::span<const TokenId> tokens;
  std::span<const TokenId> generated;
  std::span<const float> gap;  // best logit minus second best, at each step
};

class ReferenceVectors {
 public:
  // A missing or strange file fails the test.
  explicit ReferenceVectors(const std::string& name);

  std::vector<std::span<const TokenId>> prompts;
  std::vector<LogitsRow> logits;
  std::vector<GreedyPrompt> greedy;

  // Any tensor of the file; T is float for F32, std::int32_t for I32.
  template <typename T>
  std::span<const T> values(std::string_view tensor) const {
    const std::span<const std::byte> bytes = file_.tensors().find(tensor)->second.data;
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }

 private:
  std::vector<std::span<const TokenId>> split(std::string_view tokens,
                                              std::string_view offsets) const;
  model::Safetensors file_;
};

}  // namespace pd::numerics
