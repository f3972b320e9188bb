#include "engine/prefill_engine.h"

#include <gtest/gtest.h>

#include "engine/engine_test_kit.h"
#include "engine/fake_forward_pass.h"

namespace pd::engine {
namespace {

using std::chrono::seconds;
using test::holder;
using test::OwnedRange;
using Kind = PrefillEvent::Kind;

const protocol::KvLayout kLayout = FakeForwardPass::layout(16);

std::vector<TokenId> prompt_of(std::size_t length, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<TokenId> prompt(length);
  for (TokenId& id : prompt) id = static_cast<TokenId>(rng.below(97));
  return prompt;
}

FakeModelOptions wide() {
  FakeModelOptions options;
  options.rows_max = 4096;
  return options;
}

PrefillEngineOptions chunks_of(std::int64_t budget) {
  PrefillEngineOptions options;
  options.batcher.budget = Tokens(budget);
  return options;
}

class PrefillEngineTest : public testing::Test {
 protected:
  PrefillJob job(std::uint64_t n, std::vector<TokenId> tokens, std::size_t emitted = 0) {
    PrefillJob out;
    out.id = holder(n);
    out.prompt_length = Tokens(static_cast<std::int64_t>(tokens.size() - emitted));
    const Tokens capacity(static_cast<std::int64_t>(tokens.size()));
    out.tokens = std::move(tokens);
    out.range = ranges_.emplace_back(std::make_unique<OwnedRange>(kLayout, capacity))->view();
    out.sampling.seed = 5;
    return out;
  }
  // Steps until idle; events by request.
  std::map<std::uint64_t, PrefillEvent> run(PrefillEngine& engine) {
    std::map<std::uint64_t, PrefillEvent> events;
    for (int steps = 0; !engine.idle() && steps < 10000; ++steps) {
      for (PrefillEvent& event : engine.step(now_)) {
        events[event.id.request.low] = std::move(event);
      }
    }
    EXPECT_TRUE(engine.idle());
    return events;
  }
  PrefixCache cache(Bytes budget) {
    auto made = PrefixCache::create(kLayout, Tokens(16), budget);
    EXPECT_TRUE(made.has_value());
    return std::move(*made);
  }

  Time now_{};
  FakeForwardPass model_{wide()};
  std::vector<std::unique_ptr<OwnedRange>> ranges_;
};

TEST_F(PrefillEngineTest, ChunksAndCompanyChangeNeitherKvNorToken) {
  std::vector<std::pair<TokenId, std::vector<std::byte>>> want;
  const std::vector<std::size_t> lengths = {1, 2, 15, 16, 17, 31, 32, 33, 64, 100};
  for (std::size_t length : lengths) {
    PrefillEngine alone(model_, kLayout, nullptr, chunks_of(4096));
    ASSERT_TRUE(alone.add(job(0, prompt_of(length, length))).has_value());
    const PrefillEvent event = run(alone).at(0);
    ASSERT_EQ(event.kind, Kind::kFinished);
    EXPECT_EQ(event.computed, Tokens(static_cast<std::int64_t>(length)));
    want.emplace_back(event.first.id, ranges_.back()->bytes());
  }
  for (std::int64_t budget : {1, 7, 16, 33, 200}) {
    ranges_.clear();
    PrefillEngine engine(model_, kLayout, nullptr, chunks_of(budget));
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      ASSERT_TRUE(engine.add(job(i, prompt_of(lengths[i], lengths[i]))).has_value());
    }
    const auto events = run(engine);
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      EXPECT_EQ(events.at(i).first.id, want[i].first) << budget << " " << lengths[i];
      EXPECT_EQ(ranges_[i]->bytes(), want[i].second) << budget << " " << lengths[i];
    }
  }
}

TEST_F(PrefillEngineTest, CachedPrefixesGiveTheSameKvAndCostNothing) {
  PrefixCache prefixes = cache(Bytes(1 << 20));
  PrefillEngine engine(model_, kLayout, &prefixes, chunks_of(50));
  const std::vector<TokenId> prompt = prompt_of(100, 1);
  ASSERT_TRUE(engine.add(job(0, prompt)).has_value());
  const PrefillEvent first = run(engine).at(0);
  EXPECT_EQ(first.cached, Tokens(0));

  ASSERT_TRUE(engine.add(job(1, prompt)).has_value());
  const PrefillEvent again = run(engine).at(1);
  EXPECT_EQ(again.cached, Tokens(96));
  EXPECT_EQ(again.computed, Tokens(4));
  EXPECT_EQ(again.first, first.first);
  EXPECT_EQ(ranges_[1]->bytes(), ranges_[0]->bytes());

  // 96 tokens are six whole blocks, but the last token must be computed.
  ASSERT_TRUE(engine.add(job(2, {prompt.begin(), prompt.begin() + 96})).has_value());
  EXPECT_EQ(run(engine).at(2).cached, Tokens(80));

  PrefillJob foreign = job(3, prompt);
  foreign.tenant_salt = 9;
  ASSERT_TRUE(engine.add(std::move(foreign)).has_value());
  const PrefillEvent other = run(engine).at(3);
  EXPECT_EQ(other.cached, Tokens(0));
  EXPECT_EQ(other.first, first.first);
  EXPECT_EQ(engine.progress().cached, 96U + 80U);
  EXPECT_EQ(engine.progress().tokens, 100U + 4U + 16U + 100U);
}

TEST_F(PrefillEngineTest, PromptsThatCameTogetherShareTheirBeginning) {
  PrefixCache prefixes = cache(Bytes(1 << 20));
  PrefillEngine engine(model_, kLayout, &prefixes, chunks_of(64));
  std::vector<TokenId> prompt = prompt_of(80, 2);
  for (std::uint64_t n = 0; n < 4; ++n) {
    prompt.back() = static_cast<TokenId>(n);
    ASSERT_TRUE(engine.add(job(n, prompt)).has_value());
  }
  const auto events = run(engine);
  EXPECT_EQ(events.at(3).cached, Tokens(64));
  PrefillEngine plain(model_, kLayout, nullptr, chunks_of(4096));
  for (std::uint64_t n = 0; n < 4; ++n) {
    prompt.back() = static_cast<TokenId>(n);
    ASSERT_TRUE(plain.add(job(n, prompt)).has_value());
  }
  const auto want = run(plain);
  for (std::uint64_t n = 0; n < 4; ++n) EXPECT_EQ(events.at(n).first, want.at(n).first);
}

TEST_F(PrefillEngineTest, AnyCacheSizeIsExact) {
  const Bytes block = kLayout.range(Tokens(16));
  for (std::int64_t blocks : {0, 1, 3, 10}) {
    PrefixCache prefixes = cache(block * blocks);
    PrefillEngine cached(model_, kLayout, &prefixes, chunks_of(40));
    PrefillEngine plain(model_, kLayout, nullptr, chunks_of(4096));
    Rng rng(static_cast<std::uint64_t>(blocks));
    for (std::uint64_t round = 0; round < 60; ++round) {
      ranges_.clear();
      std::vector<TokenId> prompt = prompt_of(60, 3 + rng.below(2));
      prompt.resize(1 + rng.below(60));
      for (std::uint64_t i = rng.below(30); i-- > 0;) prompt.push_back(static_cast<TokenId>(i));
      PrefillJob a = job(round, prompt), b = job(round, prompt);
      a.tenant_salt = b.tenant_salt = rng.below(2);
      ASSERT_TRUE(cached.add(std::move(a)).has_value());
      ASSERT_TRUE(plain.add(std::move(b)).has_value());
      const PrefillEvent got = run(cached).at(round);
      ASSERT_EQ(got.first, run(plain).at(round).first);
      ASSERT_EQ(got.cached + got.computed, Tokens(static_cast<std::int64_t>(prompt.size())));
      ASSERT_EQ(ranges_[0]->bytes(), ranges_[1]->bytes());
    }
    EXPECT_LE(prefixes.used(), block * blocks);
  }
}

TEST_F(PrefillEngineTest, ResumesBehindEmittedTokens) {
  const std::vector<TokenId> prompt = prompt_of(30, 4);
  PrefillJob params = job(0, prompt);
  params.sampling.max_tokens = Tokens(12);
  params.sampling.repetition_penalty = 1.3F;
  params.sampling.frequency_penalty = 0.5F;
  const std::vector<TokenId> want =
      test::generate_naively(model_, kLayout, prompt, params.sampling);
  for (std::size_t cut = 0; cut < want.size(); ++cut) {
    std::vector<TokenId> tokens = prompt;
    tokens.insert(tokens.end(), want.begin(), want.begin() + static_cast<std::ptrdiff_t>(cut));
    PrefillEngine engine(model_, kLayout, nullptr, chunks_of(8));
    PrefillJob resumed = job(cut, tokens, cut);
    resumed.sampling = params.sampling;
    ASSERT_TRUE(engine.add(std::move(resumed)).has_value());
    EXPECT_EQ(run(engine).at(cut).first.id, want[cut]);
  }
}

TEST_F(PrefillEngineTest, PromptLogprobsAreThoseOfEveryPosition) {
  const std::vector<TokenId> prompt = prompt_of(70, 5);
  OwnedRange range(kLayout, Tokens(70));
  const Segment whole{prompt, Tokens(0),
                      KvView::contiguous(kLayout, range.view().memory.data(), Tokens(70)), 70};
  const auto rows = model_.forward(std::span(&whole, 1));
  std::vector<SampledToken> want;
  for (std::size_t i = 0; i + 1 < prompt.size(); ++i) {
    want.push_back(*score(rows.subspan(i * 97, 97), prompt[i + 1], 3));
  }
  PrefixCache prefixes = cache(Bytes(1 << 20));
  PrefillEngineOptions options = chunks_of(50);
  for (std::int64_t rows_max : {1, 9, 1000}) {
    options.logits_rows_max = Tokens(rows_max);
    PrefillEngine engine(model_, kLayout, &prefixes, options);
    PrefillJob asks = job(1, prompt);
    asks.sampling.prompt_logprobs = 3;
    ASSERT_TRUE(engine.add(std::move(asks)).has_value());
    ASSERT_TRUE(engine.add(job(2, prompt_of(20, 6))).has_value());
    const auto events = run(engine);
    EXPECT_EQ(events.at(1).prompt_logprobs, want);
    EXPECT_EQ(events.at(1).cached, Tokens(0));
    EXPECT_TRUE(events.at(2).prompt_logprobs.empty());
  }
}

TEST_F(PrefillEngineTest, ExpiredJobsAreDroppedBeforeDeviceTime) {
  PrefillEngine engine(model_, kLayout, nullptr, chunks_of(10));
  PrefillJob late = job(1, prompt_of(30, 7));
  late.deadline = now_ + seconds(1);
  ASSERT_TRUE(engine.add(std::move(late)).has_value());
  EXPECT_TRUE(engine.step(now_).empty());
  const int passes = model_.passes;
  const auto events = engine.step(now_ + seconds(1));
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].kind, Kind::kExpired);
  EXPECT_EQ(events[0].computed, Tokens(10));
  EXPECT_EQ(model_.passes, passes);
  EXPECT_TRUE(engine.idle());
}

TEST_F(PrefillEngineTest, CancelledJobsLeaveTheirRangeAlone) {
  PrefillEngine engine(model_, kLayout, nullptr, chunks_of(10));
  ASSERT_TRUE(engine.add(job(1, prompt_of(30, 8))).has_value());
  ASSERT_TRUE(engine.add(job(2, prompt_of(30, 9))).has_value());
  engine.step(now_);
  EXPECT_TRUE(engine.cancel(holder(1)));
  EXPECT_FALSE(engine.cancel(holder(1)));
  const std::vector<std::byte> before = ranges_[0]->bytes();
  EXPECT_EQ(run(engine).size(), 1U);
  EXPECT_EQ(ranges_[0]->bytes(), before);
}

TEST_F(PrefillEngineTest, DamagedNumbersFailTheJobAlone) {
  FakeModelOptions options = wide();
  options.damaged = 50;
  FakeForwardPass model(options);
  PrefillEngine engine(model, kLayout, nullptr, chunks_of(100));
  ASSERT_TRUE(engine.add(job(1, {1, 2, 50})).has_value());
  ASSERT_TRUE(engine.add(job(2, {50, 2, 3})).has_value());
  const auto events = run(engine);
  EXPECT_EQ(events.at(1).kind, Kind::kFailed);
  EXPECT_EQ(events.at(1).error.code, ErrorCode::kCorrupt);
  EXPECT_EQ(events.at(2).kind, Kind::kFinished);
}

TEST_F(PrefillEngineTest, RefusesJobsThatBreakTheirDescription) {
  PrefillEngine engine(model_, kLayout, nullptr, chunks_of(10));
  const auto refused = [&](PrefillJob bad) {
    const Status status = engine.add(std::move(bad));
    return !status && status.error().code == ErrorCode::kInvalidArgument;
  };
  PrefillJob bad = job(1, {1, 2, 3});
  bad.tokens[1] = 97;
  EXPECT_TRUE(refused(bad));
  bad.tokens[1] = -1;
  EXPECT_TRUE(refused(bad));
  bad = job(1, {1, 2, 3});
  bad.prompt_length = Tokens(4);
  EXPECT_TRUE(refused(bad));
  bad.prompt_length = Tokens(0);
  EXPECT_TRUE(refused(bad));
  bad = job(1, {1, 2, 3});
  bad.range.capacity = Tokens(2);
  EXPECT_TRUE(refused(bad));
  bad.range.capacity = Tokens(4);
  EXPECT_TRUE(refused(bad));
  bad = job(1, {1, 2, 3});
  bad.tokens.clear();
  EXPECT_TRUE(refused(bad));
  EXPECT_TRUE(engine.idle());
  ASSERT_TRUE(engine.add(job(1, {1, 2, 3})).has_value());
  EXPECT_EQ(engine.add(job(1, {1, 2, 3})).error().code, ErrorCode::kAlreadyExists);
  EXPECT_EQ(run(engine).size(), 1U);
}

}  // namespace
}  // namespace pd::engine
