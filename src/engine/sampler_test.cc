#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "base/rng.h"
#include "engine/candidates.h"

namespace pd::engine {
namespace {

using protocol::SamplingParams;

constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<float> random_logits(Rng& rng, std::size_t vocab, double spread) {
  std::vector<float> out(vocab);
  for (float& x : out) {
    const double sum = rng.unit() + rng.unit() + rng.unit() + rng.unit() - 2.0;
    x = static_cast<float>(sum * spread);
  }
  return out;
}

// The definition, word by word, in long double, with a full sort. `edge`: how near the top-p
// boundary came to a tie, as a share of the mass; below 1e-6 the two may rightly differ.
struct Reference {
  std::map<TokenId, long double> share;  // of those that may be drawn
  long double edge = 1.0L;
};

Reference reference(std::vector<float> logits, const SamplingParams& params,
                    const SamplingHistory& history, const std::vector<TokenId>& eos) {
  for (auto [id, bias] : params.logit_bias) logits.at(static_cast<std::size_t>(id)) += bias;
  std::map<TokenId, int> in_output;
  for (TokenId id : history.output) ++in_output[id];
  std::map<TokenId, int> anywhere = in_output;
  for (TokenId id : history.prompt) ++anywhere[id];
  for (auto [id, count] : anywhere) {
    float& x = logits.at(static_cast<std::size_t>(id));
    x = x > 0.0F ? x / params.repetition_penalty : x * params.repetition_penalty;
  }
  for (auto [id, count] : in_output) {
    logits.at(static_cast<std::size_t>(id)) -=
        params.presence_penalty + params.frequency_penalty * static_cast<float>(count);
  }
  if (static_cast<std::int64_t>(history.output.size()) < params.min_tokens.value()) {
    for (TokenId id : eos) logits.at(static_cast<std::size_t>(id)) = -kInf;
    for (TokenId id : params.stop_ids) logits.at(static_cast<std::size_t>(id)) = -kInf;
  }
  const float peak = *std::max_element(logits.begin(), logits.end());
  std::vector<std::pair<float, TokenId>> order;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    order.emplace_back(-((logits[i] - peak) / params.temperature), static_cast<TokenId>(i));
  }
  std::sort(order.begin(), order.end());
  if (params.top_k > 0) {
    order.resize(std::min(order.size(), static_cast<std::size_t>(params.top_k)));
  }
  std::vector<long double> weight;
  for (auto [negative, id] : order) weight.push_back(std::exp(-static_cast<long double>(negative)));
  Reference out;
  const long double total = std::accumulate(weight.begin(), weight.end(), 0.0L);
  std::size_t kept = order.size();
  if (params.top_p < 1.0F) {
    long double sum = 0.0L;
    kept = 0;
    while (kept < order.size()) {
      sum += weight[kept++];
      out.edge = std::min(out.edge, std::abs(sum / total - params.top_p));
      if (sum >= params.top_p * total) break;
    }
  }
  for (std::size_t i = 0; i < kept; ++i) {
    out.edge = std::min(out.edge, std::abs(weight[i] - params.min_p) + (params.min_p == 0 ? 1 : 0));
    if (weight[i] >= params.min_p) out.share[order[i].second] = weight[i];
  }
  const long double left =
      std::accumulate(out.share.begin(), out.share.end(), 0.0L,
                      [](long double sum, const auto& entry) { return sum + entry.second; });
  for (auto& [id, share] : out.share) share /= left;
  return out;
}

// Inverse of the chi-square distribution function by Wilson and Hilferty (1931); z = 4.75 leaves
// one false alarm in a million.
double chi_square_limit(double degrees) {
  const double z = 4.75;
  return degrees * std::pow(1.0 - 2.0 / (9.0 * degrees) + z * std::sqrt(2.0 / (9.0 * degrees)), 3);
}

TokenId draw(const std::vector<float>& logits, const SamplingParams& params,
             const SamplingHistory& history = {}, const std::vector<TokenId>& eos = {}) {
  const Result<SampledToken> token = sample(logits, params, history, eos);
  EXPECT_TRUE(token.has_value());
  return token ? token->id : -1;
}

TEST(Sampler, MassIsExpWithinItsBound) {
  std::vector<float> scores;
  for (int i = 0; i <= 300000; ++i) scores.push_back(-1e-4F * static_cast<float>(i));
  std::vector<std::uint64_t> masses(scores.size());
  masses_of(scores, masses);
  EXPECT_EQ(masses[0], kMassOfLikeliest);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const double want = std::exp(static_cast<double>(scores[i])) * 0x1.0p42;
    ASSERT_NEAR(static_cast<double>(masses[i]), want, want * 0x1.0p-22 + 0.5) << scores[i];
    if (i > 0) {
      ASSERT_LE(masses[i], masses[i - 1] + (masses[i - 1] >> 22) + 1);
    }
  }
  const std::vector<float> low = {-kInf, -1e30F, -31.0F};
  std::vector<std::uint64_t> none(low.size(), 7);
  masses_of(low, none);
  EXPECT_EQ(none, (std::vector<std::uint64_t>{0, 0, 0}));
}

TEST(Sampler, GreedyTakesTheLikeliestAndTheSmallerIdOfEquals) {
  SamplingParams params;
  params.temperature = 0.0F;
  for (const std::size_t vocab : {1U, 5U, 15U, 16U, 17U, 33U, 1000U}) {
    for (std::size_t at = 0; at < vocab; ++at) {
      std::vector<float> logits(vocab, -3.0F);
      logits[at] = 2.0F;
      logits[vocab - 1] = 2.0F;
      ASSERT_EQ(draw(logits, params), static_cast<TokenId>(at));
    }
  }
  params.temperature = 1e-6F;
  EXPECT_EQ(draw({0.0F, 1.0F, 1.0F}, params), 1);
}

TEST(Sampler, EveryFilterAgreesWithTheDefinition) {
  Rng rng(11);
  int compared = 0;
  for (int round = 0; round < 400; ++round) {
    const std::size_t vocab = 2 + rng.below(round % 8 == 0 ? 3000 : 60);
    std::vector<float> logits = random_logits(rng, vocab, 1.0 + 6.0 * rng.unit());
    if (round % 5 == 0) {  // many ties
      for (float& x : logits) x = std::round(x);
    }
    SamplingParams params;
    params.temperature = static_cast<float>(0.3 + rng.unit());
    if (rng.below(2) == 0) params.top_k = static_cast<std::int32_t>(1 + rng.below(vocab + 3));
    if (rng.below(2) == 0) params.top_p = static_cast<float>(0.05 + 0.95 * rng.unit());
    if (rng.below(2) == 0) params.min_p = static_cast<float>(0.3 * rng.unit());
    if (rng.below(2) == 0) params.repetition_penalty = static_cast<float>(0.8 + rng.unit());
    if (rng.below(2) == 0) params.presence_penalty = static_cast<float>(rng.unit() * 2 - 1);
    if (rng.below(2) == 0) params.frequency_penalty = static_cast<float>(rng.unit() * 2 - 1);
    std::vector<TokenId> prompt, output;
    for (int i = 0; i < 6; ++i) prompt.push_back(static_cast<TokenId>(rng.below(vocab)));
    for (int i = 0; i < 5; ++i) output.push_back(static_cast<TokenId>(rng.below(vocab)));
    if (rng.below(2) == 0) params.logit_bias = {{output[0], 3.0F}, {prompt[0], -100.0F}};
    if (vocab > 4 && rng.below(2) == 0) {
      params.min_tokens = Tokens(static_cast<std::int64_t>(4 + rng.below(4)));
      params.stop_ids = {0};
    }
    const SamplingHistory history{prompt, output};
    const Reference want = reference(logits, params, history, {1});
    if (want.edge < 1e-6L) continue;
    ++compared;
    // The support by many draws: every drawn token is allowed, every likely one appears.
    std::map<TokenId, int> seen;
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
      params.seed = seed;
      ++seen[draw(logits, params, history, {1})];
    }
    for (const auto& [id, count] : seen) ASSERT_TRUE(want.share.contains(id)) << round << " " << id;
    for (const auto& [id, share] : want.share) {
      // Missed by 300 draws with probability below e^-30.
      if (share > 0.1L) {
        ASSERT_TRUE(seen.contains(id)) << round << " " << id;
      }
    }
  }
  EXPECT_GT(compared, 350);
}

TEST(Sampler, FiltersKeepExactlyTheDefinedSet) {
  Rng rng(12);
  int compared = 0;
  for (int round = 0; round < 300; ++round) {
    const std::size_t vocab = 1 + rng.below(round % 4 == 0 ? 20000 : 500);
    std::vector<float> logits = random_logits(rng, vocab, round % 3 == 0 ? 0.01 : 8.0);
    if (round % 5 == 0) {
      for (float& x : logits) x = std::round(x);
    }
    SamplingParams params;
    if (rng.below(2) == 0) params.top_k = static_cast<std::int32_t>(1 + rng.below(vocab));
    if (rng.below(2) == 0) params.top_p = static_cast<float>(rng.unit());
    if (rng.below(2) == 0) params.min_p = static_cast<float>(rng.unit());
    const Reference want = reference(logits, params, {}, {});
    if (want.edge < 1e-6L) continue;
    ++compared;
    Candidates candidates(logits, peak_of(logits).value, 1.0F);
    if (params.top_k > 0) candidates.keep_top_k(params.top_k);
    if (params.top_p < 1.0F) candidates.keep_top_p(params.top_p);
    if (params.min_p > 0.0F) candidates.keep_min_p(params.min_p);
    std::vector<TokenId> ids;
    for (const auto& [id, share] : want.share) ids.push_back(id);
    ASSERT_EQ(candidates.ids(), ids) << round;
  }
  EXPECT_GT(compared, 200);
}

TEST(Sampler, DrawsFollowTheDistribution) {
  Rng rng(13);
  for (int round = 0; round < 6; ++round) {
    const std::vector<float> logits = random_logits(rng, 40, 2.0);
    SamplingParams params;
    params.temperature = round % 2 == 0 ? 1.0F : 0.7F;
    if (round == 2) params.top_k = 12;
    if (round == 3) params.top_p = 0.9F;
    if (round == 4) params.min_p = 0.05F;
    const Reference want = reference(logits, params, {}, {});
    constexpr int kDraws = 40000;
    std::map<TokenId, int> seen;
    // Half of the draws vary the seed, half the output index: both must be as good as random.
    std::vector<TokenId> output;
    for (int i = 0; i < kDraws / 2; ++i) {
      params.seed = static_cast<std::uint64_t>(i);
      ++seen[draw(logits, params)];
    }
    params.seed = 99;
    for (int i = 0; i < kDraws / 2; ++i) {
      output.push_back(0);
      ++seen[draw(logits, params, {{}, output})];
    }
    double statistic = 0.0;
    double degrees = -1.0;
    double rare = 0.0, rare_seen = 0.0;
    for (const auto& [id, share] : want.share) {
      const double expected = static_cast<double>(share) * kDraws;
      if (expected < 10.0) {  // pooled: the approximation needs a few per cell
        rare += expected;
        rare_seen += seen[id];
        continue;
      }
      statistic += (seen[id] - expected) * (seen[id] - expected) / expected;
      degrees += 1.0;
    }
    if (rare >= 10.0) {
      statistic += (rare_seen - rare) * (rare_seen - rare) / rare;
      degrees += 1.0;
    }
    EXPECT_LT(statistic, chi_square_limit(degrees)) << round;
  }
}

TEST(Sampler, SameSeedAndIndexDrawTheSameWhateverElse) {
  Rng rng(14);
  const std::vector<float> logits = random_logits(rng, 500, 3.0);
  SamplingParams params;
  params.seed = 77;
  const std::vector<TokenId> a = {1, 2, 3}, b = {9, 8, 7};
  EXPECT_EQ(draw(logits, params, {{}, a}), draw(logits, params, {{}, b}));
  std::map<TokenId, int> seen;
  std::vector<TokenId> output;
  for (int i = 0; i < 50; ++i) {
    ++seen[draw(logits, params, {{}, output})];
    output.push_back(0);
  }
  EXPECT_GT(seen.size(), 10U);  // the index moves the draw
}

TEST(Sampler, MinTokensMasksEosAndStopIds) {
  SamplingParams params;
  params.temperature = 0.0F;
  params.stop_ids = {2};
  params.min_tokens = Tokens(2);
  const std::vector<float> logits = {1.0F, 9.0F, 8.0F, 3.0F};
  const std::vector<TokenId> one = {0}, two = {0, 0};
  EXPECT_EQ(draw(logits, params, {{}, one}, {1}), 3);
  EXPECT_EQ(draw(logits, params, {{}, two}, {1}), 1);
}

TEST(Sampler, PenaltiesAndBiasMoveTheChoice) {
  SamplingParams params;
  params.temperature = 0.0F;
  const std::vector<float> logits = {5.0F, 4.0F, -1.0F};
  const std::vector<TokenId> zero = {0}, zeros = {0, 0, 0};
  params.repetition_penalty = 2.0F;
  EXPECT_EQ(draw(logits, params, {zero, {}}), 1);
  EXPECT_EQ(draw(logits, params, {{}, zero}), 1);
  params = {};
  params.temperature = 0.0F;
  params.presence_penalty = 0.9F;
  EXPECT_EQ(draw(logits, params, {{}, zeros}), 0);
  EXPECT_EQ(draw(logits, params, {zeros, {}}), 0);  // the prompt does not count
  params.presence_penalty = 0.0F;
  params.frequency_penalty = 0.4F;
  EXPECT_EQ(draw(logits, params, {{}, zero}), 0);
  EXPECT_EQ(draw(logits, params, {{}, zeros}), 1);
  params.frequency_penalty = 0.0F;
  params.logit_bias = {{2, 100.0F}};
  EXPECT_EQ(draw(logits, params), 2);
}

TEST(Sampler, IdsOutsideTheVocabularyAreIgnored) {
  SamplingParams params;
  params.temperature = 0.0F;
  params.repetition_penalty = 1.5F;
  params.frequency_penalty = 1.0F;
  params.logit_bias = {{-1, 50.0F}, {3, 50.0F}, {2147483647, 1.0F}};
  params.stop_ids = {-5, 100};
  params.min_tokens = Tokens(10);
  const std::vector<TokenId> wild = {-2147483647 - 1, -1, 3, 2147483647};
  EXPECT_EQ(draw({0.0F, 2.0F, 1.0F}, params, {wild, wild}, {-1, 3}), 1);
}

TEST(Sampler, BadLogitsAreAnErrorAndMaskedOnesAreNot) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  SamplingParams params;
  for (const std::size_t at : {0U, 7U, 16U, 20U}) {
    for (const float bad : {nan, kInf}) {
      std::vector<float> logits(21, 1.0F);
      logits[at] = bad;
      const auto token = sample(logits, params, {}, {});
      ASSERT_FALSE(token.has_value());
      EXPECT_EQ(token.error().code, ErrorCode::kCorrupt);
      EXPECT_FALSE(score(logits, 1, 2).has_value());
    }
  }
  EXPECT_FALSE(sample(std::vector<float>(5, -kInf), params, {}, {}).has_value());
  EXPECT_FALSE(sample({}, params, {}, {}).has_value());
  EXPECT_EQ(draw({-kInf, 0.0F, -kInf}, params), 1);

  params.stop_ids = {0, 1};
  params.min_tokens = Tokens(1);
  const auto none = sample(std::vector<float>{1.0F, 2.0F}, params, {}, {});
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().code, ErrorCode::kInvalidArgument);
}

TEST(Sampler, ExtremeParametersStayDefined) {
  const std::vector<float> logits = {3e38F, -3e38F, 0.0F, 3e38F};
  SamplingParams params;
  params.top_k = 2147483647;
  params.top_p = 0.0F;
  params.min_p = 5.0F;
  EXPECT_EQ(draw(logits, params), 0);
  params = {};
  params.temperature = 1e30F;
  for (params.seed = 0; params.seed < 50; ++params.seed) {
    const TokenId id = draw({0.0F, 1.0F, -kInf}, params);
    EXPECT_TRUE(id == 0 || id == 1);
  }
  params.temperature = -1.0F;
  EXPECT_EQ(draw(logits, params), 0);
}

TEST(Sampler, LogprobsAreOfTheModelsOwnDistribution) {
  Rng rng(15);
  for (const std::size_t vocab : {3U, 100U, 1024U, 1025U, 5000U}) {
    const std::vector<float> logits = random_logits(rng, vocab, 5.0);
    SamplingParams params;
    params.temperature = 0.0F;
    params.logprobs = 5;
    params.logit_bias = {{2, 100.0F}};
    const auto token = sample(logits, params, {}, {});
    ASSERT_TRUE(token.has_value());
    EXPECT_EQ(token->id, 2);
    long double total = 0.0L;
    for (float x : logits) total += std::exp(static_cast<long double>(x));
    const auto want = [&](TokenId id) {
      return static_cast<double>(logits[static_cast<std::size_t>(id)] - std::log(total));
    };
    // Masses carry 2^-22, the sum no more; float rounding of a logprob near 20 adds 2^-20.
    const double bound = 0x1.0p-20 + 0x1.0p-22;
    EXPECT_NEAR(token->logprob, want(2), bound);
    std::vector<std::pair<float, TokenId>> order;
    for (std::size_t i = 0; i < vocab; ++i) order.emplace_back(-logits[i], static_cast<TokenId>(i));
    std::sort(order.begin(), order.end());
    ASSERT_EQ(token->top.size(), std::min<std::size_t>(5, vocab));
    for (std::size_t i = 0; i < token->top.size(); ++i) {
      EXPECT_EQ(token->top[i].id, order[i].second);
      EXPECT_NEAR(token->top[i].logprob, want(order[i].second), bound);
    }
    const auto scored = score(logits, 1, 0);
    ASSERT_TRUE(scored.has_value());
    EXPECT_NEAR(scored->logprob, want(1), bound);
    EXPECT_TRUE(scored->top.empty());
    EXPECT_FALSE(score(logits, 1, -3)->top.size() > 0);
  }
}

TEST(Sampler, TopLogprobsBreakTiesBySmallerId) {
  SamplingParams params;
  params.logprobs = 3;
  params.temperature = 0.0F;
  const auto token = sample(std::vector<float>{1.0F, 2.0F, 2.0F, 2.0F, 2.0F}, params, {}, {});
  ASSERT_TRUE(token.has_value());
  ASSERT_EQ(token->top.size(), 3U);
  EXPECT_EQ(token->top[0].id, 1);
  EXPECT_EQ(token->top[1].id, 2);
  EXPECT_EQ(token->top[2].id, 3);
}

}  // namespace
}  // namespace pd::engine
