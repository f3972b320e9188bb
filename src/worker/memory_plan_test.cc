#include "worker/memory_plan.h"

#include <gtest/gtest.h>

#include "model/model.h"

namespace pd::worker {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

// 64 KiB a token.
protocol::KvLayout layout() {
  return {.dtype = protocol::KvDType::kBF16, .layers = 32, .kv_heads = 8, .head_dim = 64};
}

TEST(MemoryPlan, AShortContextGetsRoomForEverySlotAndPlace) {
  ASSERT_EQ(layout().token(), Bytes(64 << 10));
  const MemorySettings settings{.slots = 3, .batch = 5};
  const Bytes buffer = send_buffer_size(layout(), Tokens(100), settings);
  EXPECT_GE(buffer, Bytes(3 * 100 * (64 << 10)));
  EXPECT_LT(buffer, Bytes(3 * 101 * (64 << 10)));
  EXPECT_EQ(kv_pool_size(layout(), Tokens(100), settings), Bytes(5 * 100 * (64 << 10)));
}

TEST(MemoryPlan, ALongContextIsBoundedButTheLongestRequestFits) {
  const MemorySettings settings{.slots = 8, .batch = 64};
  EXPECT_EQ(send_buffer_size(layout(), Tokens(2048), settings), Bytes(256 * kMiB));
  EXPECT_EQ(kv_pool_size(layout(), Tokens(2048), settings), Bytes(1024 * kMiB));
  const Bytes longest = layout().range(Tokens(131072));
  EXPECT_GE(send_buffer_size(layout(), Tokens(131072), settings), longest);
  EXPECT_LT(send_buffer_size(layout(), Tokens(131072), settings), longest + Bytes(kMiB));
  EXPECT_EQ(kv_pool_size(layout(), Tokens(131072), settings), longest + longest);
}

TEST(MemoryPlan, ConfiguredSizesAreTaken) {
  const MemorySettings settings{.send_buffer = Bytes(12345), .kv_memory = Bytes(54321)};
  EXPECT_EQ(send_buffer_size(layout(), Tokens(131072), settings), Bytes(12345));
  EXPECT_EQ(kv_pool_size(layout(), Tokens(131072), settings), Bytes(54321));
}

TEST(MemoryPlan, TotalCountsWeightsOnceAndTheRestPerInstance) {
  const MemoryPlan plan{.weights = Bytes(1000 * kMiB),
                        .send_buffer = Bytes(100 * kMiB),
                        .prefix_cache = Bytes(10 * kMiB),
                        .kv_pool = Bytes(1 * kMiB)};
  EXPECT_EQ(plan.total(2, 3, 0), Bytes(1223 * kMiB));
  EXPECT_EQ(plan.total(0, 0, 2), Bytes(1222 * kMiB));
  EXPECT_EQ(plan.describe(2, 3, 0),
            "weights 1000 MiB once, [prefill] send_buffer 100 MiB and prefix_cache 10 MiB for each "
            "of 2, [decode] kv_memory 1 MiB for each of 3");
}

TEST(MemoryPlan, OfAModelFollowsItsShapeAndTheContextThatIsServed) {
  const auto model = model::Model::open(PD_SOURCE_DIR "/assets/models/stories260K");
  ASSERT_TRUE(model) << model.error().message;
  ModelOptions options;
  options.kernels = "reference";
  options.block_tokens = 16;
  const auto whole = MemoryPlan::make(*model, options, {});
  ASSERT_TRUE(whole) << whole.error().message;
  EXPECT_GT(whole->weights, Bytes(260'000 * 4));
  options.context_max = Tokens(model->config().context_max.value() / 2);
  const auto half = MemoryPlan::make(*model, options, {});
  ASSERT_TRUE(half);
  EXPECT_EQ(half->weights, whole->weights);
  EXPECT_EQ(half->kv_pool * 2, whole->kv_pool);
  options.context_max = model->config().context_max + Tokens(1);
  const auto more = MemoryPlan::make(*model, options, {});
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(more.error().message.find("[model] context_max"), std::string::npos);
}

}  // namespace
}  // namespace pd::worker
