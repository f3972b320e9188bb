#include "numerics/comparison.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace pd::numerics {
namespace {

constexpr std::size_t kSteps = 32;

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

}  // namespace

Measured compare_logits(engine::Transformer& transformer, const Variant& variant,
                        const ReferenceVectors& reference, std::size_t longest) {
  std::vector<double> row_errors;
  double squares = 0.0;
  const auto vocab = static_cast<std::size_t>(transformer.vocab());
  for (std::size_t p = 0; p < reference.prompts.size(); ++p) {
    const std::span<const TokenId> prompt = reference.prompts[p];
    if (prompt.size() > longest) continue;
    const auto length = static_cast<std::int64_t>(prompt.size());
    const TestKv kv(variant.layout, length, false);
    const std::vector<float> logits = run_prompt(transformer, kv, prompt, length, length);
    for (const LogitsRow& row : reference.logits) {
      if (row.prompt != p) continue;
      const float* ours = logits.data() + static_cast<std::size_t>(row.position) * vocab;
      double largest = 0.0;
      double row_squares = 0.0;
      for (std::size_t i = 0; i < row.values.size(); ++i) {
        const std::size_t id = row.ids.empty() ? i : static_cast<std::size_t>(row.ids[i]);
        const double difference = std::abs(double{ours[id]} - row.values[i]) / row.max_abs;
        largest = std::max(largest, std::isnan(difference) ? INFINITY : difference);
        row_squares += difference * difference;
      }
      row_errors.push_back(largest);
      squares += row_squares / static_cast<double>(row.values.size());
    }
  }
  std::ranges::sort(row_errors);
  Measured out;
  out.rows = row_errors.size();
  out.max = row_errors.back();
  out.median = row_errors[out.rows / 2];
  out.rms = std::sqrt(squares / static_cast<double>(out.rows));
  return out;
}

void expect_within(const std::string& what, const Measured& measured, const Errors& bound) {
  fmt::print(
      "{}: max {:.1e} (bound {:.1e}), median {:.1e} ({:.1e}), rms {:.1e} ({:.1e}), {} rows\n", what,
      measured.max, bound.max, measured.median, bound.median, measured.rms, bound.rms,
      measured.rows);
  EXPECT_GT(measured.rows, 20U);
  EXPECT_LE(measured.max, bound.max);
  EXPECT_LE(measured.median, bound.median);
  EXPECT_LE(measured.rms, bound.rms);
}

void expect_same_tokens(engine::Transformer& transformer, const Variant& variant,
                        std::span<const GreedyPrompt> prompts, const std::string& what) {
  std::size_t different = 0;
  for (std::size_t first = 0; first < prompts.size(); first += 50) {
    std::vector<Stream> streams;
    for (const GreedyPrompt& prompt :
         prompts.subspan(first, std::min<std::size_t>(50, prompts.size() - first))) {
      const auto capacity = static_cast<std::int64_t>(prompt.tokens.size() + kSteps);
      streams.push_back({&prompt, TestKv(variant.layout, capacity, true),
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

void expect_flips_only_at_small_gaps(engine::Transformer& transformer, const Variant& variant,
                                     std::span<const GreedyPrompt> prompts, const Errors& bound,
                                     double expected_share, const std::string& what) {
  const auto vocab = static_cast<std::size_t>(transformer.vocab());
  std::size_t flips = 0;
  double largest_gap = 0.0;
  for (const GreedyPrompt& prompt : prompts) {
    std::vector<TokenId> tokens(prompt.tokens.begin(), prompt.tokens.end());
    tokens.insert(tokens.end(), prompt.generated.begin(), prompt.generated.end() - 1);
    const auto length = static_cast<std::int64_t>(tokens.size());
    const TestKv kv(variant.layout, length, false);
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

}  // namespace pd::numerics
