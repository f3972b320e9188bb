// Aggregated = disaggregated = with prefix-cache hits = in any batch = with any number of threads =
// resumed after a cut, token for token (docs/architecture.md, "the same answer").
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>

#include "base/rng.h"
#include "engine/transformer.h"
#include "exactness/pd_pair.h"
#include "numerics/test_model.h"

namespace pd::exactness {
namespace {

// Around every boundary: blocks of 16 (pool and cache), chunks of 24 and 64, attention's 64.
constexpr std::array kLengths = {1,  2,  7,  15,  16,  17,  23,  24,  25,  31, 32, 33,
                                 47, 48, 49, 63,  64,  65,  71,  72,  73,  79, 80, 81,
                                 95, 96, 97, 111, 112, 113, 127, 128, 129, 130};

protocol::SamplingParams sampling_of(std::size_t n) {
  protocol::SamplingParams params;
  params.max_tokens = Tokens(static_cast<std::int64_t>(6 + n % 7));
  params.seed = 1000 + n;
  switch (n % 4) {
    case 0:
    case 1:
      params.temperature = 0.0F;
      break;
    case 2:
      params.temperature = 0.9F;
      params.top_p = 0.9F;
      params.repetition_penalty = 1.15F;
      break;
    default:
      params.temperature = 1.3F;
      params.top_k = 40;
      params.min_p = 0.02F;
      params.presence_penalty = 0.4F;
      params.frequency_penalty = 0.3F;
  }
  return params;
}

// Prompts share beginnings: a third of them with others at a random depth.
std::vector<Request> requests_of(std::size_t count, std::int32_t vocab, std::uint64_t seed) {
  Rng rng(seed);
  const auto id = [&] {
    return static_cast<TokenId>(rng.below(static_cast<std::uint64_t>(vocab)));
  };
  std::vector<std::vector<TokenId>> stems(8);
  for (auto& stem : stems) {
    for (int i = 0; i < 130; ++i) stem.push_back(id());
  }
  std::vector<Request> requests;
  for (std::size_t n = 0; n < count; ++n) {
    const auto length = static_cast<std::size_t>(kLengths[n % kLengths.size()]);
    Request request;
    request.sampling = sampling_of(n);
    if (rng.below(3) == 0) {
      request.prompt = stems[rng.below(stems.size())];
      request.prompt.resize(rng.below(length + 1));
    }
    while (request.prompt.size() < length) request.prompt.push_back(id());
    requests.push_back(std::move(request));
  }
  return requests;
}

// Every request cut behind a random number of tokens, as the gateway hands it to another instance.
std::vector<Request> cut(const std::vector<Request>& requests, const std::vector<Output>& outputs,
                         std::uint64_t seed) {
  Rng rng(seed);
  std::vector<Request> out = requests;
  for (std::size_t n = 0; n < out.size(); ++n) {
    out[n].emitted = outputs[n];
    out[n].emitted.resize(rng.below(outputs[n].size()));
  }
  return out;
}

constexpr std::array kModels = {"stories260K",      "tiny-llama3.1", "tiny-qwen2.5",
                                "tiny-qwen3",       "tiny-mistral",  "tiny-mistral-window",
                                "tiny-llama-linear"};

// 1,000 prompts per kernel set; the reference, slow by intent, gets a quarter of them.
std::size_t prompts_of(std::string_view model) { return model == "stories260K" ? 400 : 100; }

class Exactness : public testing::TestWithParam<std::string> {};

void check(const engine::Kernels& kernels, const std::string& model, std::size_t prompts,
           PairCounts& counts) {
  const auto path = numerics::model_path(model);
  ASSERT_TRUE(path.has_value()) << model;
  const engine::Weights weights = numerics::load_weights(*path);
  const protocol::KvLayout layout = engine::kv_layout(weights, kernels, 16);
  ThreadPool one(1), two(2);
  engine::Transformer on_one(weights, kernels, one, 256);
  engine::Transformer on_two(weights, kernels, two, 256);
  const std::vector<Request> requests = requests_of(prompts, on_one.vocab(), 7);
  std::vector<Output> want;
  for (const Request& request : requests) want.push_back(run_alone(on_one, layout, request));

  const auto same = [&](engine::Transformer& model_of, ThreadPool& threads,
                        const PairSettings& settings, const std::vector<Request>& asked) {
    const PairResult result = run_pair(model_of, layout, threads, settings, asked);
    counts.cached += result.counts.cached;
    counts.evicted += result.counts.evicted;
    for (std::size_t n = 0; n < asked.size(); ++n) {
      ASSERT_EQ(result.outputs[n], want[n % want.size()])
          << kernels.name << ", " << model << ", " << settings.name << ": request " << n
          << ", prompt of " << asked[n].prompt.size();
    }
  };
  same(on_one, one, {.name = "one at a time", .chunk = 64, .slots = 1, .batch = 1}, requests);
  // Everything twice: the second time most of the prompt is in the cache.
  std::vector<Request> twice = requests;
  twice.insert(twice.end(), requests.begin(), requests.end());
  same(on_one, one,
       {.name = "small chunks, batches, cache hits, evictions",
        .chunk = 24,
        .slots = 12,
        .batch = 21,
        .prefill_steps = 8,
        .pool_blocks = 60,
        .cache_blocks = 600,
        .order = 5},
       twice);
  same(on_two, two,
       {.name = "resumed behind a random token, two threads",
        .chunk = 100,
        .slots = 5,
        .batch = 17,
        .prefill_steps = 4,
        .cache_blocks = 30,
        .order = 6},
       cut(requests, want, 8));
}

TEST_P(Exactness, ThousandPromptsGiveTheSameTokensHoweverTheyRun) {
  const auto kernels = engine::select_kernels(GetParam());
  if (!kernels) GTEST_SKIP() << kernels.error().message;
  PairCounts counts;
  std::size_t prompts = 0;
  for (const char* model : kModels) {
    const std::size_t share = prompts_of(model);
    check(**kernels, model, share, counts);
    if (HasFatalFailure()) return;
    prompts += share;
  }
  EXPECT_EQ(prompts, 1000U);
  EXPECT_GT(counts.cached, 10 * prompts);
  EXPECT_GT(counts.evicted, prompts / 50);
  fmt::print("{}: {} prompts, {} cached tokens, {} evictions\n", GetParam(), prompts, counts.cached,
             counts.evicted);
}

INSTANTIATE_TEST_SUITE_P(Kernels, Exactness,
                         testing::Values("reference", "avx2", "avx512", "avx512_bf16"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace pd::exactness
