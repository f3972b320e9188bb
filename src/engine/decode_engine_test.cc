#include "engine/decode_engine.h"

#include <gtest/gtest.h>

#include <set>

#include "engine/engine_test_kit.h"
#include "engine/fake_forward_pass.h"

namespace pd::engine {
namespace {

using policy::KvAdmission;
using std::chrono::seconds;
using test::holder;
using test::OwnedRange;
using Kind = DecodeEvent::Kind;

constexpr std::uint16_t kBlockTokens = 4;
const protocol::KvLayout kLayout = FakeForwardPass::layout(kBlockTokens);

std::vector<TokenId> prompt_of(std::size_t length, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<TokenId> prompt(length);
  for (TokenId& id : prompt) id = static_cast<TokenId>(rng.below(97));
  return prompt;
}

// A decode side of `blocks` blocks, and a prefill side to feed it.
class DecodeEngineTest : public testing::Test {
 protected:
  void build(std::int64_t blocks, std::size_t batch_max = 32) {
    auto pool = KvPool::create(kLayout, BlockCount(blocks));
    ASSERT_TRUE(pool.has_value());
    pool_ = std::make_unique<KvPool>(std::move(*pool));
    policy::KvBlocksOptions admission;
    admission.look_ahead = false;  // running out is what the tests are about
    blocks_ =
        std::make_unique<policy::KvBlocks>(BlockCount(blocks), Tokens(kBlockTokens), admission);
    DecodeEngineOptions options;
    options.batch_max = batch_max;
    engine_ = std::make_unique<DecodeEngine>(model_, *pool_, *blocks_, threads_, options);
  }

  // Prefills prompt + emitted, reserves blocks, hands over, joins the batch.
  bool join(std::uint64_t n, const std::vector<TokenId>& prompt,
            const protocol::SamplingParams& params, std::vector<TokenId> emitted = {},
            Time deadline = Time::max()) {
    std::vector<TokenId> all = prompt;
    all.insert(all.end(), emitted.begin(), emitted.end());
    const Tokens length(static_cast<std::int64_t>(all.size()));
    if (blocks_->admit(holder(n), {length, Tokens(1), params.max_tokens}) !=
        KvAdmission::kAccepted) {
      return false;
    }
    OwnedRange range(kLayout, length);
    PrefillEngine prefill(model_, kLayout, nullptr, {});
    PrefillJob job{holder(n),  all, Tokens(static_cast<std::int64_t>(prompt.size())),
                   params,     0,   range.view(),
                   Time::max()};
    EXPECT_TRUE(prefill.add(std::move(job)).has_value());
    std::vector<PrefillEvent> events;
    while (!prefill.idle()) events = prefill.step(Time{});
    emitted.push_back(events.at(0).first.id);
    outputs_[n] = emitted;
    test::hand_over(kLayout, range.view(), *pool_, blocks_->table(holder(n)), length);
    DecodeJob decode{holder(n), length, emitted, prompt, params, deadline};
    return engine_->admit(std::move(decode)).has_value();
  }
  // One step; collects tokens, ends jobs that are as long as they may be.
  std::vector<DecodeEvent> step(const protocol::SamplingParams& params) {
    std::vector<DecodeEvent> others;
    for (DecodeEvent& event : engine_->step(now_)) {
      const std::uint64_t n = event.id.request.low;
      if (event.kind != Kind::kToken) {
        if (event.kind != Kind::kEvicted) blocks_->release(event.id, false);
        others.push_back(std::move(event));
        continue;
      }
      EXPECT_EQ(event.index, outputs_[n].size());
      outputs_[n].push_back(event.token.id);
      if (static_cast<std::int64_t>(outputs_[n].size()) == params.max_tokens.value()) {
        EXPECT_TRUE(engine_->remove(event.id));
        blocks_->release(event.id, true);
        finished_.insert(n);
      }
    }
    return others;
  }

  Time now_{};
  FakeForwardPass model_{FakeModelOptions{}};
  ThreadPool threads_{1};
  std::unique_ptr<KvPool> pool_;
  std::unique_ptr<policy::KvBlocks> blocks_;
  std::unique_ptr<DecodeEngine> engine_;
  std::map<std::uint64_t, std::vector<TokenId>> outputs_;
  std::set<std::uint64_t> finished_;
};

protocol::SamplingParams params_of(std::int64_t max_tokens, std::uint64_t seed = 1) {
  protocol::SamplingParams params;
  params.max_tokens = Tokens(max_tokens);
  params.seed = seed;
  params.repetition_penalty = 1.2F;
  params.presence_penalty = 0.3F;
  params.top_p = 0.95F;
  return params;
}

TEST_F(DecodeEngineTest, ContinuesExactlyWhatPrefillBegan) {
  build(200);
  const protocol::SamplingParams params = params_of(20);
  // Jobs join at different steps and leave at different ones.
  std::map<std::uint64_t, std::vector<TokenId>> want;
  for (std::uint64_t n = 0; n < 12; ++n) {
    const std::vector<TokenId> prompt = prompt_of(1 + n * 2, n);
    want[n] = test::generate_naively(model_, kLayout, prompt, params);
    ASSERT_TRUE(join(n, prompt, params));
    EXPECT_TRUE(step(params).empty());
  }
  while (!engine_->idle()) EXPECT_TRUE(step(params).empty());
  EXPECT_EQ(outputs_, want);
  EXPECT_EQ(blocks_->free(), blocks_->total());
}

TEST_F(DecodeEngineTest, TheYoungestIsEvictedWhenBlocksRunOut) {
  build(9);
  const protocol::SamplingParams params = params_of(20);
  ASSERT_TRUE(join(1, prompt_of(7, 1), params));
  ASSERT_TRUE(join(2, prompt_of(7, 2), params));
  ASSERT_TRUE(join(3, prompt_of(7, 3), params));
  std::vector<std::uint64_t> evicted;
  while (!engine_->idle()) {
    for (const DecodeEvent& event : step(params)) {
      ASSERT_EQ(event.kind, Kind::kEvicted);
      evicted.push_back(event.id.request.low);
      EXPECT_FALSE(blocks_->holds(event.id));
    }
  }
  EXPECT_EQ(evicted, (std::vector<std::uint64_t>{3, 2}));
  EXPECT_EQ(outputs_[1], test::generate_naively(model_, kLayout, prompt_of(7, 1), params));
  EXPECT_EQ(blocks_->free(), blocks_->total());

  // Placed again with what it had emitted, it goes on as if nothing had happened.
  const std::vector<TokenId> emitted = outputs_[3];
  ASSERT_TRUE(join(3, prompt_of(7, 3), params, emitted));
  while (!engine_->idle()) EXPECT_TRUE(step(params).empty());
  EXPECT_EQ(outputs_[3], test::generate_naively(model_, kLayout, prompt_of(7, 3), params));
}

TEST_F(DecodeEngineTest, AnEvictedRequestIsNotTheNextVictimToo) {
  build(9);
  const protocol::SamplingParams params = params_of(20);
  ASSERT_TRUE(join(1, prompt_of(7, 1), params));
  ASSERT_TRUE(join(2, prompt_of(7, 2), params, std::vector<TokenId>(6, 5)));  // placed again
  ASSERT_TRUE(join(3, prompt_of(7, 3), params, std::vector<TokenId>(3, 5)));
  std::vector<std::uint64_t> evicted;
  while (evicted.empty()) {
    for (const DecodeEvent& event : step(params)) evicted.push_back(event.id.request.low);
  }
  EXPECT_EQ(evicted, (std::vector<std::uint64_t>{1}));
}

TEST_F(DecodeEngineTest, WhatFillsThePoolAloneFailsInsteadOfGoingRound) {
  build(3);
  ASSERT_TRUE(join(1, prompt_of(7, 1), params_of(100)));
  std::vector<DecodeEvent> events;
  while (!engine_->idle()) events = step(params_of(100));
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].kind, Kind::kFailed);
  EXPECT_EQ(events[0].error.code, ErrorCode::kTooLarge);
  EXPECT_EQ(outputs_[1].size(), 6U);  // 12 positions hold 7 + 5 tokens; the sixth needs none
  EXPECT_EQ(blocks_->free(), blocks_->total());
}

TEST_F(DecodeEngineTest, ExpiredJobsLeaveBeforeDeviceTime) {
  build(50);
  const protocol::SamplingParams params = params_of(50);
  ASSERT_TRUE(join(1, prompt_of(5, 1), params, {}, now_ + seconds(1)));
  ASSERT_TRUE(join(2, prompt_of(5, 2), params));
  EXPECT_TRUE(step(params).empty());
  now_ += seconds(1);
  const auto events = step(params);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].kind, Kind::kExpired);
  EXPECT_EQ(events[0].id, holder(1));
  EXPECT_EQ(outputs_[1].size(), 2U);
  EXPECT_EQ(outputs_[2].size(), 3U);
}

TEST_F(DecodeEngineTest, DamagedNumbersFailTheJobAlone) {
  FakeModelOptions options;
  options.damaged = 50;
  model_ = FakeForwardPass(options);
  build(50);
  protocol::SamplingParams params;
  params.logit_bias = {{50, 100.0F}};  // the first token is the damaged one
  ASSERT_TRUE(join(1, prompt_of(5, 1), params));
  ASSERT_TRUE(join(2, prompt_of(5, 2), {}));
  const auto events = step(params_of(50));
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].kind, Kind::kFailed);
  EXPECT_EQ(events[0].error.code, ErrorCode::kCorrupt);
  EXPECT_EQ(outputs_[2].size(), 2U);
  EXPECT_EQ(engine_->jobs(), 1U);
}

TEST_F(DecodeEngineTest, RefusesJobsThatBreakTheirDescription) {
  build(50, 2);
  ASSERT_EQ(blocks_->admit(holder(1), {Tokens(7), Tokens(1), Tokens(9)}), KvAdmission::kAccepted);
  const auto code = [&](DecodeJob job) { return engine_->admit(std::move(job)).error().code; };
  const DecodeJob good{holder(1), Tokens(7), {3}, {}, {}, Time::max()};
  DecodeJob bad = good;
  bad.emitted.clear();
  EXPECT_EQ(code(bad), ErrorCode::kInvalidArgument);
  bad = good;
  bad.emitted = {97};
  EXPECT_EQ(code(bad), ErrorCode::kInvalidArgument);
  bad = good;
  bad.kv_length = Tokens(8);
  EXPECT_EQ(code(bad), ErrorCode::kInvalidArgument);
  bad.kv_length = Tokens(0);
  EXPECT_EQ(code(bad), ErrorCode::kInvalidArgument);
  bad = good;
  bad.id = holder(2);
  EXPECT_EQ(code(bad), ErrorCode::kInvalidArgument);
  ASSERT_TRUE(engine_->admit(good).has_value());
  EXPECT_EQ(code(good), ErrorCode::kAlreadyExists);
  for (std::uint64_t n : {2U, 3U}) {
    ASSERT_EQ(blocks_->admit(holder(n), {Tokens(7), Tokens(1), Tokens(9)}), KvAdmission::kAccepted);
  }
  bad = good;
  bad.id = holder(2);
  ASSERT_TRUE(engine_->admit(bad).has_value());
  bad.id = holder(3);
  EXPECT_EQ(code(bad), ErrorCode::kNoCapacity);
  EXPECT_FALSE(engine_->remove(holder(3)));
}

// Arrivals, cancels, evictions and resumptions at random in a pool that is too small: whoever
// finishes has the undisturbed output, and no block is lost.
TEST_F(DecodeEngineTest, AnyDisturbanceLeavesOutputsExact) {
  Rng rng(41);
  build(26);
  const protocol::SamplingParams params = params_of(16);
  std::map<std::uint64_t, std::vector<TokenId>> want;
  std::vector<std::uint64_t> waiting;
  for (std::uint64_t n = 0; n < 300; ++n) {
    want[n] = test::generate_naively(model_, kLayout, prompt_of(1 + n % 23, n), params);
    waiting.push_back(n);
  }
  int evictions = 0, cancels = 0;
  for (int steps = 0; steps < 20000 && finished_.size() < want.size(); ++steps) {
    while (!waiting.empty() && rng.below(3) != 0) {
      const std::uint64_t n = waiting.back();
      // Resumed with a prefix of what it had: the gateway may have seen less than D computed.
      std::vector<TokenId> emitted = outputs_[n];
      if (!emitted.empty()) emitted.resize(rng.below(emitted.size()));
      if (!join(n, prompt_of(1 + n % 23, n), params, emitted)) break;
      waiting.pop_back();
    }
    for (const DecodeEvent& event : step(params)) {
      ASSERT_EQ(event.kind, Kind::kEvicted);
      waiting.push_back(event.id.request.low);
      ++evictions;
    }
    for (std::uint64_t n = 0; n < want.size(); ++n) {
      if (rng.below(120) != 0 || !engine_->remove(holder(n))) continue;
      blocks_->release(holder(n), false);
      waiting.push_back(n);
      ++cancels;
    }
    ASSERT_EQ(blocks_->holders(), engine_->jobs());
  }
  EXPECT_EQ(finished_.size(), want.size());
  EXPECT_EQ(outputs_, want);
  EXPECT_EQ(blocks_->free(), blocks_->total());
  EXPECT_GT(evictions, 10);
  EXPECT_GT(cancels, 10);
}

TEST(KvPool, RefusesSizesThatCannotBe) {
  protocol::KvLayout layout = kLayout;
  EXPECT_EQ(KvPool::create(layout, BlockCount(INT64_MAX)).error().code, ErrorCode::kTooLarge);
  EXPECT_EQ(KvPool::create(layout, BlockCount(-1)).error().code, ErrorCode::kTooLarge);
  layout.layers = 0;
  EXPECT_EQ(KvPool::create(layout, BlockCount(1)).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(KvPool::blocks_in(kLayout, kLayout.range(Tokens(4 * kBlockTokens))), BlockCount(4));
}

}  // namespace
}  // namespace pd::engine
