// Logits of every kernel set against Hugging Face transformers in f32.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "numerics/error_bounds.h"
#include "numerics/reference_vectors.h"
#include "numerics/test_model.h"

namespace pd::numerics {
namespace {

struct Measured : Errors {
  std::size_t rows = 0;
};

Measured compare(engine::Transformer& transformer, const protocol::KvLayout& layout,
                 const ReferenceVectors& reference) {
  std::vector<double> row_errors;
  double squares = 0.0;
  const auto vocab = static_cast<std::size_t>(transformer.vocab());
  for (std::size_t p = 0; p < reference.prompts.size(); ++p) {
    const std::span<const TokenId> prompt = reference.prompts[p];
    const auto length = static_cast<std::int64_t>(prompt.size());
    const TestKv kv(layout, length, false);
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
  EXPECT_GT(measured.rows, 40U);
  EXPECT_LE(measured.max, bound.max);
  EXPECT_LE(measured.median, bound.median);
  EXPECT_LE(measured.rms, bound.rms);
}

class Logits : public testing::TestWithParam<std::string> {};

TEST_P(Logits, AgreeWithHuggingFaceWithinTheDerivedBound) {
  const std::string& name = GetParam();
  const std::optional<std::string> path = model_path(name);
  if (!path) GTEST_SKIP() << name << " is not on this machine";
  const ReferenceVectors reference(name);
  ThreadPool pool(2);
  const engine::Weights weights = load_weights(*path);
  for (const engine::Kernels* kernels : all_kernels()) {
    engine::Transformer transformer(weights, *kernels, pool, 256);
    const bool f32 = kernels->kv_dtype(weights.type()) == protocol::KvDType::kF32;
    expect_within(fmt::format("{} {}", name, kernels->name),
                  compare(transformer, kv_layout(weights, *kernels, 16), reference),
                  f32 ? f32_bound(name) : bf16_bound(name, "BF16 products, KV"));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Logits, testing::ValuesIn(kAllTinyModels), test_name);

}  // namespace
}  // namespace pd::numerics
