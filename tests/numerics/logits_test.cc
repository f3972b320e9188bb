// Logits of every kernel set against Hugging Face transformers in f32.
#include <gtest/gtest.h>

#include "numerics/comparison.h"

namespace pd::numerics {
namespace {

class Logits : public testing::TestWithParam<std::string> {};

TEST_P(Logits, AgreeWithHuggingFaceWithinTheDerivedBound) {
  const std::string& name = GetParam();
  const std::optional<std::string> path = model_path(name);
  if (!path) GTEST_SKIP() << name << " is not on this machine";
  const ReferenceVectors reference(name);
  ThreadPool pool(2);
  const engine::Weights weights = load_weights(*path);
  for (const Variant& variant : all_variants(weights)) {
    engine::Transformer transformer(weights, *variant.kernels, pool, 256);
    expect_within(name + " " + variant.name, compare_logits(transformer, variant, reference, 256),
                  variant.keeps_f32 ? f32_bound(name) : bf16_bound(name, "BF16 products, KV"));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Logits, testing::ValuesIn(kAllTinyModels), test_name);

}  // namespace
}  // namespace pd::numerics
