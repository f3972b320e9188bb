// Greedy continuations of 200 prompts by 32 tokens against Hugging Face transformers in f32.
#include <gtest/gtest.h>

#include "numerics/comparison.h"

namespace pd::numerics {
namespace {

class Greedy : public testing::TestWithParam<std::string> {};

TEST_P(Greedy, FollowsHuggingFaceFor200Prompts) {
  const std::string& name = GetParam();
  const std::optional<std::string> path = model_path(name);
  if (!path) GTEST_SKIP() << name << " is not on this machine";
  const ReferenceVectors reference(name);
  ASSERT_EQ(reference.greedy.size(), 200U);
  const engine::Weights weights = load_weights(*path);
  ThreadPool pool(2);
  for (const Variant& variant : all_variants(weights)) {
    engine::Transformer transformer(weights, *variant.kernels, pool, 512);
    const std::string what = name + " " + variant.name;
    if (variant.keeps_f32) {
      expect_same_tokens(transformer, variant, reference.greedy, what);
    } else {
      const std::string program = "BF16 products, KV";
      expect_flips_only_at_small_gaps(transformer, variant, reference.greedy,
                                      bf16_bound(name, program),
                                      errors_of(name, program).flip_share, what);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Greedy, testing::ValuesIn(kAllTinyModels), test_name);

}  // namespace
}  // namespace pd::numerics
