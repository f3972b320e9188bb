// One handoff between two processes, over each wire, in each cut; and a range that is damaged,
// withdrawn, or whose owner dies.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>

#include "transfer/handoff_receiver.h"
#include "transfer/test_range.h"
#include "transfer/test_support.h"

namespace pd::transfer {
namespace {

using test::kTestLayout;
using test::Peer;
using test::Pool;
using namespace std::chrono_literals;

struct Way {
  std::string wires;
  bool block_fixed = false;
};

class HandoffProcess : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    UcxOptions options;
    options.wires = GetParam().wires == "shm" ? Wires::kSharedMemory : Wires::kTcp;
    options.connect_timeout = 500ms;
    options.staging_max = Bytes(32 << 20);
    transport_ = make_ucx_transport(BootId(5), options).value();
  }
  std::vector<std::string> arguments(int tokens) const {
    const Bytes region = Bytes(1 << 14) + range_bytes(kTestLayout, Tokens(tokens));
    return {"77", GetParam().wires, std::to_string(region.value()), std::to_string(tokens)};
  }
  // What the peer's range must hold, made here.
  void expect(int tokens) {
    range_.emplace(kTestLayout, Tokens(tokens), 1);
    pool_.emplace(kTestLayout, Tokens(tokens), 2);
  }
  HandoffPlan plan(const Peer& peer, int tokens) const {
    const KvRangeTicket ticket = range_->ticket();
    return {.id = {{1, 2}, 3},
            .descriptor = {.boot_id = peer.address().boot_id,
                           .address_blob = peer.address().blob,
                           .region_key = peer.region_key(),
                           .offset = test::kTestRangeOffset,
                           .size = range_bytes(kTestLayout, Tokens(tokens)),
                           .layout_hash = kTestLayout.hash(),
                           .weights_digest = kTestLayout.weights_digest,
                           .tokens = Tokens(tokens),
                           .epoch = ticket.epoch,
                           .read_key = ticket.read_key},
            .pool = pool_->view(),
            .table = pool_->table(),
            .block_fixed = GetParam().block_fixed};
  }
  Result<HandoffStats> hand_off(const Peer& peer, int tokens) {
    std::optional<Result<HandoffStats>> result;
    const auto receiver = std::make_shared<HandoffReceiver>(
        plan(peer, tokens), [&](Result<HandoffStats> r) { result = std::move(r); });
    receiver->start(*transport_);
    const Time limit = SteadyTime::now() + 20s;
    while (!result && SteadyTime::now() < limit) transport_->progress(limit);
    if (!result) return error(ErrorCode::kDeadlineExceeded, "no answer");
    transport_->progress(SteadyTime::now());
    return *result;
  }
  bool blocks_are_right() const {
    std::vector<std::byte> expected(pool_->bytes().begin(), pool_->bytes().end());
    range_->scatter_by_the_definition(*pool_, expected);
    return std::ranges::equal(pool_->bytes(), expected);
  }
  std::unique_ptr<KvTransport> transport_;
  std::optional<test::Range> range_;
  std::optional<Pool> pool_;
};

INSTANTIATE_TEST_SUITE_P(Ways, HandoffProcess,
                         testing::Values(Way{"shm", false}, Way{"tcp", false}, Way{"shm", true},
                                         Way{"tcp", true}),
                         [](const auto& param) {
                           return param.param.wires + (param.param.block_fixed ? "_blocks" : "");
                         });

TEST_P(HandoffProcess, TheKvArrivesAndTheOwnerIsTold) {
  for (const int tokens : {1, 16, 17, GetParam().block_fixed ? 100 : 2912}) {
    Peer peer(arguments(tokens));
    expect(tokens);
    transport_->forget(peer.address().boot_id);  // the last one's; ids are random outside of tests
    const Result<HandoffStats> result = hand_off(peer, tokens);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_TRUE(blocks_are_right());
    EXPECT_EQ(result->integrity_failures, 0U);
    EXPECT_EQ(peer.read_line(), "notice 0");
  }
}

TEST_P(HandoffProcess, DamageIsFoundTwiceAndTheOwnerIsTold) {
  Peer peer(arguments(100));
  expect(100);
  peer.write_line("damage");
  ASSERT_EQ(peer.read_line(), "ok");
  const Result<HandoffStats> result = hand_off(peer, 100);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(peer.read_line(), "notice 1");
  // What was damaged is whole again: so is the next handoff.
  peer.write_line("damage");
  ASSERT_EQ(peer.read_line(), "ok");
  EXPECT_TRUE(hand_off(peer, 100));
  EXPECT_TRUE(blocks_are_right());
}

TEST_P(HandoffProcess, AWithdrawnRangeIsUnavailable) {
  Peer peer(arguments(100));
  expect(100);
  peer.write_line("withdraw");
  ASSERT_EQ(peer.read_line(), "ok");
  EXPECT_EQ(hand_off(peer, 100).error().code, ErrorCode::kUnavailable);
}

TEST_P(HandoffProcess, AStoppedOwnerIsUnavailableInTime) {
  const Peer peer(arguments(1000));
  expect(1000);
  peer.send_signal(SIGSTOP);
  const Time begin = SteadyTime::now();
  EXPECT_EQ(hand_off(peer, 1000).error().code, ErrorCode::kUnavailable);
  EXPECT_LT(SteadyTime::now() - begin, 2s);
}

TEST_P(HandoffProcess, AnOwnerThatIsKilledOnTheWayLeavesTheWholeKvOrAnError) {
  const Peer peer(arguments(2000));
  expect(2000);
  std::optional<Result<HandoffStats>> result;
  const auto receiver = std::make_shared<HandoffReceiver>(
      plan(peer, 2000), [&](Result<HandoffStats> r) { result = std::move(r); });
  receiver->start(*transport_);
  while (!transport_->transport_to(peer.address().boot_id)) {
    transport_->progress(SteadyTime::now() + 1ms);
  }
  peer.send_signal(SIGKILL);
  const Time begin = SteadyTime::now();
  while (!result && SteadyTime::now() < begin + 10s) transport_->progress(begin + 10s);
  ASSERT_TRUE(result);
  EXPECT_LT(SteadyTime::now() - begin, 2s);
  if (*result) {
    EXPECT_TRUE(blocks_are_right());
  } else {
    EXPECT_EQ(result->error().code, ErrorCode::kUnavailable) << result->error().message;
  }
}

}  // namespace
}  // namespace pd::transfer
