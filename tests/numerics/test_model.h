// A model of the tests with its weights, and sequences to run it on.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "engine/transformer.h"
#include "engine/weights.h"
#include "model/checkpoint/checkpoint.h"

namespace pd::numerics {

// The names with files of their own in tests/data/models; with the really trained one.
inline const std::vector<std::string> kTinyModels = {"tiny-llama3.1",       "tiny-qwen2.5",
                                                     "tiny-qwen3",          "tiny-mistral",
                                                     "tiny-mistral-window", "tiny-llama-linear"};
inline const std::vector<std::string> kAllTinyModels = {
    "tiny-llama3.1",       "tiny-qwen2.5",      "tiny-qwen3", "tiny-mistral",
    "tiny-mistral-window", "tiny-llama-linear", "stories260K"};

// A parameter as part of a test's name.
std::string test_name(const testing::TestParamInfo<std::string>& info);

// nullopt: the model's files are not on this machine (only stories260K and smollm2 may be absent).
std::optional<std::string> model_path(const std::string& name);
// A model that is there but does not open fails the test.
engine::Weights load_weights(const std::string& path,
                             engine::ComputeType compute = engine::ComputeType::kAuto);

// All kernel sets of this machine.
std::vector<const engine::Kernels*> all_kernels();

// A way to run a model: kernels and what K and V are stored as.
struct Variant {
  const engine::Kernels* kernels = nullptr;
  protocol::KvLayout layout;
  bool keeps_f32 = false;  // nothing but the weights themselves is rounded below f32
  std::string name;
};
// Each kernel set as it serves, and those that can multiply bf16 weights by f32 also with K and V
// in f32: as exact as the reference, and fast enough for long runs.
std::vector<Variant> all_variants(const engine::Weights& weights);

// K and V of one sequence, contiguous or paged. Filled with NaN: reading a row that was never
// written shows.
class TestKv {
 public:
  TestKv(const protocol::KvLayout& layout, std::int64_t capacity, bool paged);
  engine::KvView view() const;

 private:
  protocol::KvLayout layout_;
  std::int64_t capacity_;
  std::vector<std::byte> memory_;
  std::vector<std::byte*> planes_;  // empty: contiguous
  std::vector<BlockIndex> table_;
};

// Logits of the last `rows` tokens of `tokens`, in pieces of at most `chunk` tokens.
std::vector<float> run_prompt(engine::Transformer& transformer, const TestKv& kv,
                              std::span<const TokenId> tokens, std::int64_t chunk,
                              std::int64_t rows);

TokenId argmax(std::span<const float> logits);

}  // namespace pd::numerics
