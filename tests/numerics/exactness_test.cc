// The same logits, bit for bit, however a sequence is cut, stored, batched and threaded.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/rng.h"
#include "numerics/reference_vectors.h"
#include "numerics/test_model.h"

namespace pd::numerics {
namespace {

constexpr std::int32_t kRowsMax = 512;

// First index at which the bits differ; nullopt: none.
std::optional<std::size_t> first_difference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return std::min(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i])) return i;
  }
  return std::nullopt;
}

class Exactness : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::optional<std::string> path = model_path(GetParam());
    if (!path) GTEST_SKIP() << GetParam() << " is not on this machine";
    weights_.emplace(load_weights(*path));
    reference_.emplace(GetParam());
  }
  void expect_same(std::span<const float> expected, std::span<const float> given,
                   const std::string& what) const {
    const std::optional<std::size_t> at = first_difference(expected, given);
    if (!at) return;
    const auto vocab = static_cast<std::size_t>(weights_->config().vocab);
    ADD_FAILURE() << what << ": row " << *at / vocab << ", token " << *at % vocab << " of "
                  << expected.size() << " and " << given.size() << " values";
  }
  // Every row of the prompt in one piece, contiguous, one thread.
  std::vector<float> whole(const engine::Kernels& kernels, std::span<const TokenId> prompt) const {
    ThreadPool pool(1);
    engine::Transformer transformer(*weights_, kernels, pool, kRowsMax);
    const auto length = static_cast<std::int64_t>(prompt.size());
    const TestKv kv(kv_layout(*weights_, kernels, 16), length, false);
    return run_prompt(transformer, kv, prompt, length, length);
  }

  std::optional<engine::Weights> weights_;
  std::optional<ReferenceVectors> reference_;
};

TEST_P(Exactness, AnyChunkingAndAnyKvAndAnyNumberOfThreads) {
  const std::span<const TokenId> prompt = reference_->prompts.back();  // 200 tokens
  const auto length = static_cast<std::int64_t>(prompt.size());
  for (const engine::Kernels* kernels : all_kernels()) {
    const std::vector<float> expected = whole(*kernels, prompt);
    int runs = 0;
    // KV blocks of 0 tokens: contiguous. 24 does not divide attention's blocks of 64.
    for (const int block_tokens : {0, 16, 24, 256}) {
      for (const std::int64_t chunk : {1, 15, 16, 17, 63, 64, 65, 128, 200}) {
        const int threads = 1 + runs++ % 3;
        ThreadPool pool(threads);
        engine::Transformer transformer(*weights_, *kernels, pool, kRowsMax);
        const bool paged = block_tokens != 0;
        const auto layout =
            kv_layout(*weights_, *kernels, static_cast<std::uint16_t>(paged ? block_tokens : 16));
        const TestKv kv(layout, length, paged);
        expect_same(expected, run_prompt(transformer, kv, prompt, chunk, length),
                    fmt::format("{} {}, {} threads, chunks of {}, KV blocks of {}", GetParam(),
                                kernels->name, threads, chunk, block_tokens));
      }
    }
  }
}

TEST_P(Exactness, AnyBatchMix) {
  for (const engine::Kernels* kernels : all_kernels()) {
    std::vector<std::vector<float>> expected;
    for (const std::span<const TokenId> prompt : reference_->prompts)
      expected.push_back(whole(*kernels, prompt));

    for (const std::uint64_t seed : {1, 2, 3, 4}) {
      Rng rng(seed);
      ThreadPool pool(static_cast<int>(1 + seed % 3));
      engine::Transformer transformer(*weights_, *kernels, pool, kRowsMax);
      const std::size_t count = reference_->prompts.size();
      std::vector<TestKv> kvs;
      std::vector<std::vector<float>> given(count);
      std::vector<std::size_t> done(count);
      for (std::size_t p = 0; p < count; ++p) {
        kvs.emplace_back(kv_layout(*weights_, *kernels, 16),
                         static_cast<std::int64_t>(reference_->prompts[p].size()),
                         rng.below(2) == 0);
      }
      // Steps of random pieces of random sequences in random order, until all are done.
      while (true) {
        std::vector<engine::Segment> step;
        std::vector<std::size_t> owners;
        std::size_t room = kRowsMax;
        std::vector<std::size_t> order(count);
        std::iota(order.begin(), order.end(), std::size_t{0});
        for (std::size_t i = count; i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
        for (const std::size_t p : order) {
          const std::size_t left = reference_->prompts[p].size() - done[p];
          if (left == 0 || room == 0 || rng.below(4) == 0) continue;
          const std::size_t most = rng.below(3) == 0 ? 1 : std::min({left, room, std::size_t{90}});
          const std::size_t take = 1 + rng.below(most);
          step.push_back({.tokens = reference_->prompts[p].subspan(done[p], take),
                          .position = Tokens(static_cast<std::int64_t>(done[p])),
                          .kv = kvs[p].view(),
                          .logits_rows = static_cast<std::int32_t>(take)});
          owners.push_back(p);
          done[p] += take;
          room -= take;
        }
        std::span<const float> logits = transformer.forward(step);
        for (std::size_t s = 0; s < step.size(); ++s) {
          const std::size_t size =
              step[s].tokens.size() * static_cast<std::size_t>(transformer.vocab());
          given[owners[s]].insert(given[owners[s]].end(), logits.begin(),
                                  logits.begin() + static_cast<std::ptrdiff_t>(size));
          logits = logits.subspan(size);
        }
        bool finished = true;
        for (std::size_t p = 0; p < count; ++p)
          finished = finished && done[p] == reference_->prompts[p].size();
        if (finished) break;
      }
      for (std::size_t p = 0; p < count; ++p) {
        expect_same(expected[p], given[p],
                    fmt::format("{} {}, seed {}, prompt {}", GetParam(), kernels->name, seed, p));
      }
    }
  }
}

// The two f32 sets are written over the same sixteen lanes: not only close, but equal.
TEST_P(Exactness, Avx2EqualsAvx512) {
  const auto avx2 = engine::select_kernels("avx2");
  const auto avx512 = engine::select_kernels("avx512");
  if (!avx2 || !avx512) GTEST_SKIP() << "this CPU has " << engine::available_kernels();
  for (const std::span<const TokenId> prompt : reference_->prompts)
    expect_same(whole(**avx2, prompt), whole(**avx512, prompt), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Models, Exactness, testing::ValuesIn(kTinyModels), test_name);

}  // namespace
}  // namespace pd::numerics
