// The default model, where its file has been fetched (tools/fetch_default_model.sh): logits and
// greedy tokens against Hugging Face transformers in f32.
//
// 200 prompts x 32 tokens are 4 TFLOP, minutes for the plain loops of `reference`. The long run in
// f32 is therefore made by the fastest set that keeps f32; `reference` itself continues the first
// prompts and computes the logits of the shorter ones; all 200 are its own only on demand
// (`tools/test.sh thorough`).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>

#include "model/model.h"
#include "numerics/comparison.h"

namespace pd::numerics {
namespace {

constexpr const char* kName = "smollm2";
constexpr const char* kProgram = "BF16 products, KV";
constexpr std::size_t kReferencePrompts = 2;
constexpr std::size_t kReferenceLongest = 65;

void expect_equal(const engine::Matrix& a, const engine::Matrix& b) {
  ASSERT_EQ(a.rows, b.rows);
  ASSERT_EQ(a.columns, b.columns);
  ASSERT_EQ(a.type, b.type);
  const auto bytes =
      static_cast<std::size_t>(a.rows * a.columns * (a.type == engine::WeightType::kF32 ? 4 : 2));
  EXPECT_EQ(std::memcmp(a.data, b.data, bytes), 0);
}

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

TEST_F(SmolLm2, DISABLED_ReferenceKernelsFollowHuggingFaceFor200Prompts) {
  engine::Transformer transformer(*weights_, *plain_.kernels, pool_, 256);
  expect_same_tokens(transformer, plain_, reference_->greedy, "smollm2 reference");
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

// The same weights, read by the other reader: then every number above holds for the folder too.
TEST_F(SmolLm2, AsASafetensorsFolderItIsTheSameModel) {
  const auto folder = model_path("smollm2-folder");
  if (!folder) GTEST_SKIP() << "tools/make_default_model_folder.sh makes it from the GGUF file";
  const auto one = model::Model::open(*model_path(kName));
  const auto other = model::Model::open(*folder);
  ASSERT_TRUE(one) << one.error().message;
  ASSERT_TRUE(other) << other.error().message;
  const engine::Weights same = load_weights(*folder);
  ASSERT_EQ(same.type(), weights_->type());
  for (int i = 0; i < one->config().layers; ++i) {
    const engine::LayerWeights& a = weights_->layer(i);
    const engine::LayerWeights& b = same.layer(i);
    for (const auto matrix : {&engine::LayerWeights::qkv, &engine::LayerWeights::output,
                              &engine::LayerWeights::gate_up, &engine::LayerWeights::down}) {
      expect_equal(a.*matrix, b.*matrix);
    }
  }
  expect_equal(weights_->embedding(), same.embedding());

  for (const char* text : {"Hello 1234 world!", "<|im_start|>user\nÜber 漢字 🎉<|im_end|>",
                           "  a\n\n b\t\t c  ", "don't  STOP'S 3.14159", ""}) {
    EXPECT_EQ(one->tokenizer.encode(text, {}), other->tokenizer.encode(text, {})) << text;
  }
  EXPECT_EQ(one->eos, other->eos);
  EXPECT_EQ(one->bos_token, other->bos_token);

  // One forward pass, to the bit: configuration (RoPE, norms, scales) and vectors too.
  engine::Transformer gguf(*weights_, *exact_.kernels, pool_, 256);
  engine::Transformer safetensors(same, *exact_.kernels, pool_, 256);
  const auto ids = one->tokenizer.encode("The capital of France is", {});
  ASSERT_TRUE(ids);
  const auto logits_of = [&](engine::Transformer& transformer, const engine::Weights& weights) {
    const TestKv kv(engine::kv_layout(weights, *exact_.kernels, 16), 64, false);
    return run_prompt(transformer, kv, *ids, 64, static_cast<std::int64_t>(ids->size()));
  };
  EXPECT_EQ(logits_of(gguf, *weights_), logits_of(safetensors, same));
}

}  // namespace
}  // namespace pd::numerics
