// The default model, where its file has been fetched (tools/fetch_default_model.sh): logits and
// greedy tokens against Hugging Face transformers in f32.
//
// 200 prompts x 32 tokens are 4 TFLOP, minutes for the plain loops of `reference`. The long run in
// f32 is therefore made by the fastest set that keeps f32; `reference` itself continues the first
// prompts and computes the logits of the shorter ones.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "numerics/comparison.h"

namespace pd::numerics {
namespace {

constexpr const char* kName = "smollm2";
constexpr const char* kProgram = "BF16 products, KV";
constexpr std::size_t kReferencePrompts = 2;
constexpr std::size_t kReferenceLongest = 65;

class SmolLm2 : public testing::Test {
 protected:
  void SetUp() override {
    const std::optional<std::string> path = model_path(kName);
    if (!path) GTEST_SKIP() << "models/ has no SmolLM2; tools/fetch_default_model.sh fetches it";
    reference_.emplace(kName);
    weights_.emplace(load_weights(*path));
    for (const Variant& variant : all_variants(*weights_)) {
      if (variant.kernels->name == "reference") plain_ = variant;
      if (variant.keeps_f32) exact_ = variant;  // the last is the fastest
      if (!variant.keeps_f32) rounding_ = variant;
    }
  }
  ThreadPool pool_{2};
  std::optional<ReferenceVectors> reference_;
  std::optional<engine::Weights> weights_;
  Variant plain_, exact_;
  std::optional<Variant> rounding_;
};

TEST_F(SmolLm2, ReferenceKernelsAgreeWithHuggingFace) {
  engine::Transformer transformer(*weights_, *plain_.kernels, pool_, 256);
  expect_within("smollm2 reference",
                compare_logits(transformer, plain_, *reference_, kReferenceLongest),
                f32_bound(kName));
  expect_same_tokens(transformer, plain_, std::span(reference_->greedy).first(kReferencePrompts),
                     "smollm2 reference");
}

TEST_F(SmolLm2, FastKernelsInF32FollowHuggingFaceFor200Prompts) {
  engine::Transformer transformer(*weights_, *exact_.kernels, pool_, 256);
  const std::string what = "smollm2 " + exact_.name;
  expect_within(what, compare_logits(transformer, exact_, *reference_, 256), f32_bound(kName));
  expect_same_tokens(transformer, exact_, reference_->greedy, what);
}

TEST_F(SmolLm2, Bf16KernelsDifferOnlyWhereTheGapIsSmall) {
  if (!rounding_) GTEST_SKIP() << "this CPU has " << engine::available_kernels();
  engine::Transformer transformer(*weights_, *rounding_->kernels, pool_, 256);
  const std::string what = "smollm2 " + rounding_->name;
  expect_within(what, compare_logits(transformer, *rounding_, *reference_, 256),
                bf16_bound(kName, kProgram));
  expect_flips_only_at_small_gaps(transformer, *rounding_, reference_->greedy,
                                  bf16_bound(kName, kProgram),
                                  errors_of(kName, kProgram).flip_share, what);
}

}  // namespace
}  // namespace pd::numerics
