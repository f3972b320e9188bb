#include "protocol/kv_layout.h"

#include <gtest/gtest.h>

#include <set>

namespace pd::protocol {
namespace {

constexpr KvLayout kSmall{
    .layers = 30, .kv_heads = 3, .head_dim = 64, .block_tokens = 16, .weights_digest = 0x1234};

TEST(KvLayout, OffsetsFollowFromTheLayoutAlone) {
  EXPECT_EQ(kSmall.row(), Bytes(384));
  EXPECT_EQ(kSmall.head_row(), Bytes(128));
  EXPECT_EQ(kSmall.token(), Bytes(384 * 60));
  EXPECT_EQ(kSmall.block_plane(), Bytes(384 * 16));
  EXPECT_EQ(kSmall.range(Tokens(7)), Bytes(7 * 384 * 60));
  EXPECT_EQ(kSmall.plane_offset(0, 0, Tokens(7)), Bytes(0));
  EXPECT_EQ(kSmall.plane_offset(0, 1, Tokens(7)), Bytes(7 * 384));
  EXPECT_EQ(kSmall.plane_offset(2, 1, Tokens(7)), Bytes(7 * 384 * 5));
  // The planes tile the range.
  EXPECT_EQ(kSmall.plane_offset(30, 0, Tokens(7)), kSmall.range(Tokens(7)));
}

TEST(KvLayout, WideLayoutsDoNotOverflow) {
  const KvLayout wide{.dtype = KvDType::kF32, .layers = 512, .kv_heads = 128, .head_dim = 512};
  EXPECT_EQ(wide.range(Tokens(4'000'000)).value(), 512LL * 2 * 128 * 512 * 4 * 4'000'000);
}

TEST(KvLayout, HashDiffersWhenAnyFieldDoes) {
  std::set<std::uint64_t> hashes{kSmall.hash()};
  const auto insert = [&hashes](auto change) {
    KvLayout other = kSmall;
    change(other);
    return hashes.insert(other.hash()).second;
  };
  EXPECT_TRUE(insert([](KvLayout& l) { l.dtype = KvDType::kF32; }));
  EXPECT_TRUE(insert([](KvLayout& l) { l.layers = 31; }));
  EXPECT_TRUE(insert([](KvLayout& l) { l.kv_heads = 4; }));
  EXPECT_TRUE(insert([](KvLayout& l) { l.head_dim = 128; }));
  EXPECT_TRUE(insert([](KvLayout& l) { l.block_tokens = 32; }));
  EXPECT_TRUE(insert([](KvLayout& l) { l.weights_digest = 0x1235; }));
  EXPECT_FALSE(insert([](KvLayout&) {}));
}

TEST(KvLayout, HashIsTheSameInEveryBuild) {
  // Two processes of different builds compare these; a changed value needs a new kOrderVersion.
  EXPECT_EQ(kSmall.hash(), 5450893966726129543ULL);
}

}  // namespace
}  // namespace pd::protocol
