#include "transfer/handoff_receiver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "transfer/kv_range.h"
#include "transfer/test_range.h"

namespace pd::transfer {
namespace {

using protocol::HandoffOutcome;
using test::Pool;
using test::Range;

constexpr protocol::KvLayout kLayout{
    .layers = 4, .kv_heads = 3, .head_dim = 64, .block_tokens = 16, .weights_digest = 9};
constexpr Tokens kTokens(45);

// P and D in one process; the test is both transfer threads.
class Handoff : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    p_ = make_in_process_transport(hub_, BootId(1));
    d_ = make_in_process_transport(hub_, BootId(2));
    region_ = p_->expose(Bytes(1 << 20)).value();
    range_.emplace(kLayout, kTokens, 1, region_.memory.subspan(4096));
    pool_.emplace(kLayout, kTokens, 2);
    p_->on_notify([this](BootId from, std::span<const std::byte> message) {
      EXPECT_EQ(from, BootId(2));
      notices_.push_back(protocol::decode_handoff_message(message).value());
    });
  }
  HandoffPlan plan() const {
    HandoffPlan out;
    out.id = {{8, 9}, 3};
    const KvRangeTicket ticket = range_->ticket();
    out.descriptor = {.boot_id = BootId(1),
                      .address_blob = p_ ? p_->address().blob : "",
                      .region_key = region_.key,
                      .offset = 4096,
                      .size = range_bytes(kLayout, kTokens),
                      .layout_hash = kLayout.hash(),
                      .weights_digest = kLayout.weights_digest,
                      .tokens = kTokens,
                      .epoch = ticket.epoch,
                      .read_key = ticket.read_key};
    out.pool = pool_->view();
    out.table = pool_->table();
    out.block_fixed = GetParam();
    return out;
  }
  std::shared_ptr<HandoffReceiver> start(HandoffPlan plan) {
    auto receiver =
        std::make_shared<HandoffReceiver>(std::move(plan), [this](Result<HandoffStats> result) {
          EXPECT_FALSE(result_);
          result_ = std::move(result);
        });
    receiver->start(*d_);
    return receiver;
  }
  void run() {
    for (int i = 0; i < 2000 && !result_; ++i) d_->progress(Time());
    d_->progress(Time());
    if (p_) p_->progress(Time());
  }
  bool blocks_are_right() const {
    std::vector<std::byte> expected(pool_->bytes().begin(), pool_->bytes().end());
    range_->scatter_by_the_definition(*pool_, expected);
    return std::ranges::equal(pool_->bytes(), expected);
  }
  ErrorCode failure() const {
    return result_ && !*result_ ? result_->error().code : ErrorCode::kInternal;
  }
  std::shared_ptr<InProcessHub> hub_ = make_in_process_hub();
  std::unique_ptr<KvTransport> p_;
  std::unique_ptr<KvTransport> d_;
  ExposedRegion region_;
  std::optional<Range> range_;
  std::optional<Pool> pool_;
  std::optional<Result<HandoffStats>> result_;
  std::vector<protocol::HandoffMessage> notices_;
};

INSTANTIATE_TEST_SUITE_P(Cuts, Handoff, testing::Bool(), [](const auto& param) {
  return param.param ? "block_fixed" : "contiguous";
});

TEST_P(Handoff, BringsTheKvIntoTheBlocksAndTellsTheOwner) {
  const auto receiver = start(plan());
  run();
  ASSERT_TRUE(result_);
  ASSERT_TRUE(*result_) << result_->error().message;
  EXPECT_TRUE(blocks_are_right());
  EXPECT_EQ((*result_)->integrity_failures, 0U);
  // 45 tokens are 3 blocks in each of 8 planes; the header comes first, and again at the end.
  EXPECT_EQ((*result_)->pieces, GetParam() ? 1U + 3 * 8 + 1 : 1U);
  ASSERT_EQ(notices_.size(), 1U);
  EXPECT_EQ(notices_[0].outcome, HandoffOutcome::kDone);
  EXPECT_EQ(notices_[0].epoch, range_->ticket().epoch);
  EXPECT_EQ(notices_[0].read_key, range_->ticket().read_key);
  EXPECT_EQ(notices_[0].id, plan().id);
}

TEST_P(Handoff, DamageThatStaysFailsAfterTheSecondTry) {
  range_->kv()[range_->kv().size() / 2] ^= std::byte{1};
  const auto receiver = start(plan());
  run();
  EXPECT_EQ(failure(), ErrorCode::kCorrupt);
  ASSERT_EQ(notices_.size(), 1U);
  EXPECT_EQ(notices_[0].outcome, HandoffOutcome::kFailed);
}

TEST_P(Handoff, DamageThatPassesIsCountedAndPulledAgain) {
  // Damaged until the reader's first try has scattered the damaged bytes.
  std::byte& damaged = range_->kv()[5];
  damaged ^= std::byte{1};
  const std::byte* first_row =
      pool_->planes()[0] + pool_->table()[0].value() * kLayout.block_plane().value();
  const auto receiver = start(plan());
  for (int i = 0; i < 2000 && first_row[5] != damaged; ++i) d_->progress(Time());
  damaged ^= std::byte{1};
  // In one piece that try has failed by now; block by block it fails at the end of the layer.
  run();
  ASSERT_TRUE(result_);
  ASSERT_TRUE(*result_) << result_->error().message;
  EXPECT_EQ((*result_)->integrity_failures, 1U);
  EXPECT_TRUE(blocks_are_right());
  ASSERT_EQ(notices_.size(), 1U);
  EXPECT_EQ(notices_[0].outcome, HandoffOutcome::kDone);
}

TEST_P(Handoff, AStaleTicketOrAWithdrawnRangeIsRefused) {
  HandoffPlan stale = plan();
  stale.descriptor.epoch = Epoch(6);
  const auto first = start(stale);
  run();
  EXPECT_EQ(failure(), ErrorCode::kCorrupt);
  result_.reset();
  invalidate_range(range_->bytes());
  const auto second = start(plan());
  run();
  EXPECT_EQ(failure(), ErrorCode::kUnavailable);
}

TEST_P(Handoff, ADescriptorThatDoesNotFitTheLayoutIsRefusedBeforeAnyPull) {
  HandoffPlan wrong = plan();
  wrong.descriptor.size = wrong.descriptor.size - Bytes(1);
  const auto receiver = start(wrong);
  EXPECT_EQ(failure(), ErrorCode::kInvalidArgument);
}

TEST_P(Handoff, AnOwnerThatIsGoneIsUnavailable) {
  HandoffPlan late = plan();
  p_ = nullptr;
  const auto receiver = start(late);
  run();
  EXPECT_EQ(failure(), ErrorCode::kUnavailable);
}

TEST_P(Handoff, AfterCancelTheBlocksAreNotTouched) {
  // At every point of the way, cancel answers once and the blocks stay as they are then.
  for (int steps = 0; steps < 12; ++steps) {
    result_.reset();
    pool_.emplace(kLayout, kTokens, 2);
    const auto receiver = start(plan());
    for (int i = 0; i < steps && !result_; ++i) d_->progress(Time());
    const bool over = result_.has_value();
    receiver->cancel();
    ASSERT_TRUE(result_);
    EXPECT_TRUE(over || failure() == ErrorCode::kCancelled);
    const std::vector<std::byte> then(pool_->bytes().begin(), pool_->bytes().end());
    for (int i = 0; i < 50; ++i) d_->progress(Time());
    EXPECT_TRUE(std::ranges::equal(pool_->bytes(), then));
  }
}

TEST_P(Handoff, ACancelBeforeTheStartIsAnsweredByTheStart) {
  auto receiver = std::make_shared<HandoffReceiver>(
      plan(), [this](Result<HandoffStats> result) { result_ = std::move(result); });
  receiver->cancel();
  EXPECT_FALSE(result_);
  receiver->start(*d_);
  EXPECT_EQ(failure(), ErrorCode::kCancelled);
}

}  // namespace
}  // namespace pd::transfer
