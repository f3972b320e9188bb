// Greedy continuations of 200 prompts by 32 tokens against Hugging Face transformers in f32.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "numerics/error_bounds.h"
#include "numerics/reference_vectors.h"
#include "numerics/test_model.h"

namespace pd::numerics {
namespace {

constexpr std::size_t kSteps = 32;
constexpr std::int32_t kRowsMax = 512;

// One prompt being continued.
struct Stream {
  const GreedyPrompt* prompt;
  TestKv kv;
  std::vector<TokenId> tokens;  // prompt and what was generated
};

// Generates with all streams in one batch, each by its own tokens.
void generate(engine::Transformer& transformer, std::vector<Stream>& streams) {
  for (Stream& stream : streams) {
    const auto length = static_cast<std::int64_t>(stream.tokens.size());
    stream.tokens.push_back(
        argmax(run_prompt(transformer, stream.kv, stream.prompt->tokens, length, 1)));
  }
  for (std::size_t step = 1; step < kSteps; ++step) {
    std::vector<engine::Segment> batch;
    for (const Stream& stream : streams) {
      const std::size_t last = stream.tokens.size() - 1;
      batch.push_back({.tokens = std::span(stream.tokens).subspan(last),
                       .position = Tokens(static_cast<std::int64_t>(last)),
                       .kv = stream.kv.view(),
                       .logits_rows = 1});
    }
    std::span<const float> logits = transformer.forward(batch);
    const auto vocab = static_cast<std::size_t>(transformer.vocab());
    for (Stream& stream : streams) {
      stream.tokens.push_back(argmax(logits.first(vocab)));
      logits = logits.subspan(vocab);
    }
  }
}

// Kernels that keep f32 must generate the reference's tokens, every one.
void expect_same_tokens(engine::Transformer& transformer, const protocol::KvLayout& layout,
                        std::span<const GreedyPrompt> prompts, const std::string& what) {
  std::size_t different = 0;
  for (std::size_t first = 0; first < prompts.size(); first += 50) {
    std::vector<Stream> streams;
    for (const GreedyPrompt& prompt :
         prompts.subspan(first, std::min<std::size_t>(50, prompts.size() - first))) {
      const auto capacity = static_cast<std::int64_t>(prompt.tokens.size() + kSteps);
      streams.push_back({&prompt, TestKv(layout, capacity, true),
                         std::vector<TokenId>(prompt.tokens.begin(), prompt.tokens.end())});
    }
    generate(transformer, streams);
    for (const Stream& stream : streams) {
      const auto generated = std::span(stream.tokens).subspan(stream.prompt->tokens.size());
      different += std::ranges::equal(generated, stream.prompt->generated) ? 0 : 1;
    }
  }
  fmt::print("{}: {} of {} prompts continued differently\n", what, different, prompts.size());
  EXPECT_EQ(different, 0U) << what;
}

// Kernels that round to bf16 are fed the reference's tokens. Where their best token is another one,
// the reference's own gap must be within what rounding can move two logits by.
void expect_flips_only_at_small_gaps(engine::Transformer& transformer,
                                     const protocol::KvLayout& layout,
                                     std::span<const GreedyPrompt> prompts, const Errors& bound,
                                     double expected_share, const std::string& what) {
  const auto vocab = static_cast<std::size_t>(transformer.vocab());
  std::size_t flips = 0;
  double largest_gap = 0.0;
  for (const GreedyPrompt& prompt : prompts) {
    std::vector<TokenId> tokens(prompt.tokens.begin(), prompt.tokens.end());
    tokens.insert(tokens.end(), prompt.generated.begin(), prompt.generated.end() - 1);
    const auto length = static_cast<std::int64_t>(tokens.size());
    const TestKv kv(layout, length, false);
    const std::vector<float> logits = run_prompt(transformer, kv, tokens, length, kSteps);
    for (std::size_t step = 0; step < kSteps; ++step) {
      const auto row = std::span(logits).subspan(step * vocab, vocab);
      if (argmax(row) == prompt.generated[step]) continue;
      ++flips;
      const float largest =
          std::abs(*std::ranges::max_element(row, {}, [](float logit) { return std::abs(logit); }));
      largest_gap = std::max(largest_gap, double{prompt.gap[step] / largest});
    }
  }
  const double share = static_cast<double>(flips) / static_cast<double>(prompts.size() * kSteps);
  fmt::print(
      "{}: best token differs at {} of {} steps ({:.2f}%, expected {:.2f}%), largest gap "
      "there {:.1e} (bound {:.1e})\n",
      what, flips, prompts.size() * kSteps, 100 * share, 100 * expected_share, largest_gap,
      2 * bound.max);
  EXPECT_LE(largest_gap, 2 * bound.max) << what;
  // Counts of rare events: twice the expected share and 5 steps for chance.
  EXPECT_LE(share, 2 * expected_share + 5.0 / static_cast<double>(prompts.size() * kSteps)) << what;
}

class Greedy : public testing::TestWithParam<std::string> {};

TEST_P(Greedy, FollowsHuggingFaceFor200Prompts) {
  const std::optional<std::string> path = model_path(GetParam());
  if (!path) GTEST_SKIP() << GetParam() << " is not on this machine";
  const ReferenceVectors reference(GetParam());
  ASSERT_EQ(reference.greedy.size(), 200U);
  const engine::Weights weights = load_weights(*path);
  ThreadPool pool(2);
  for (const engine::Kernels* kernels : all_kernels()) {
    engine::Transformer transformer(weights, *kernels, pool, kRowsMax);
    const protocol::KvLayout layout = kv_layout(weights, *kernels, 16);
    const std::string what = fmt::format("{} {}", GetParam(), kernels->name);
    if (layout.dtype == protocol::KvDType::kF32) {
      expect_same_tokens(transformer, layout, reference.greedy, what);
    } else {
      const std::string program = "BF16 products, KV";
      expect_flips_only_at_small_gaps(transformer, layout, reference.greedy,
                                      bf16_bound(GetParam(), program),
                                      errors_of(GetParam(), program).flip_share, what);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Greedy, testing::ValuesIn(kAllTinyModels), test_name);

}  // namespace
}  // namespace pd::numerics
