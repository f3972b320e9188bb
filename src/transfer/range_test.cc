// A range from its header to the blocks: scatter against the plainest loop, pieces in every cut,
// and everything that must not be believed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/rng.h"
#include "transfer/kv_range.h"
#include "transfer/pages.h"
#include "transfer/range_pieces.h"
#include "transfer/range_reader.h"
#include "transfer/scatter.h"
#include "transfer/test_range.h"

namespace pd::transfer {
namespace {

using protocol::KvDType;
using protocol::KvLayout;
using test::Pool;
using test::Range;

const KvLayout kLayouts[] = {
    {.layers = 3, .kv_heads = 3, .head_dim = 64, .block_tokens = 16, .weights_digest = 5},
    {.layers = 2, .kv_heads = 1, .head_dim = 24, .block_tokens = 4},
    {.dtype = KvDType::kF32, .layers = 1, .kv_heads = 8, .head_dim = 128, .block_tokens = 32},
    {.layers = 2, .kv_heads = 5, .head_dim = 7, .block_tokens = 1},
};

TEST(Scatter, PutsEveryElementWhereTheLayoutSaysAndNowhereElse) {
  for (const KvLayout& layout : kLayouts) {
    for (const int tokens : {1, 2, 15, 16, 17, 40, 65}) {
      const Range range(layout, Tokens(tokens), 1);
      Pool pool(layout, Tokens(tokens), 2);
      const std::vector<std::byte> before(pool.bytes().begin(), pool.bytes().end());
      for (int layer = 0; layer < layout.layers; ++layer) {
        scatter_layer(pool.view(), pool.table(), range.kv(), Tokens(tokens), layer);
      }
      std::vector<std::byte> expected = before;
      range.scatter_by_the_definition(pool, expected);
      EXPECT_TRUE(std::ranges::equal(pool.bytes(), expected)) << tokens;
    }
  }
}

TEST(Scatter, AroundTheCacheAndInAnyCutItIsTheSame) {
  Rng rng(3);
  for (const KvLayout& layout : kLayouts) {
    const Tokens tokens(50);
    const Range range(layout, tokens, 1);
    Pool whole(layout, tokens, 2);
    Pool cut(layout, tokens, 2);
    const auto row = static_cast<std::size_t>(layout.row().value());
    for (int layer = 0; layer < layout.layers; ++layer) {
      scatter_layer(whole.view(), whole.table(), range.kv(), tokens, layer);
      for (const int k_or_v : {0, 1}) {
        const auto plane =
            static_cast<std::size_t>(layout.plane_offset(layer, k_or_v, tokens).value());
        for (std::size_t t = 0; t < 50;) {
          const std::size_t n = std::min<std::size_t>(1 + rng.below(20), 50 - t);
          scatter_rows(cut.view(), cut.table(), {layer, k_or_v},
                       Tokens(static_cast<std::int64_t>(t)),
                       range.kv().subspan(plane + t * row, n * row), Stores::kAroundCache,
                       Bytes(t == 0 ? 1 << 20 : 0));
          t += n;
        }
      }
    }
    stores_done();
    EXPECT_TRUE(std::ranges::equal(whole.bytes(), cut.bytes()));
  }
}

TEST(Scatter, GatherIsItsInverse) {
  for (const KvLayout& layout : kLayouts) {
    const Tokens tokens(37);
    const Range range(layout, tokens, 4);
    Pool pool(layout, tokens, 2);
    std::vector<std::byte> back(range.kv().size());
    for (int layer = 0; layer < layout.layers; ++layer) {
      scatter_layer(pool.view(), pool.table(), range.kv(), tokens, layer);
    }
    for (int layer = 0; layer < layout.layers; ++layer) {
      gather_layer(pool.view(), pool.table(), back, tokens, layer);
    }
    EXPECT_TRUE(std::ranges::equal(back, range.kv()));
  }
}

// Feeds the pieces of a range to a reader; the first error.
Status read(const Range& range, Pool& pool, RangePieces pieces) {
  RangeReader reader(pool.view(), pool.table(), range.ticket());
  while (const auto piece = pieces.next()) {
    const auto bytes =
        range.bytes().subspan(piece->offset, static_cast<std::size_t>(piece->size.value()));
    const auto header = static_cast<std::size_t>(piece->header.value());
    if (piece->again) {
      if (Status again = reader.header_again(bytes); !again) return again;
      continue;
    }
    if (header > 0) {
      if (Status checked = reader.header(bytes.first(header)); !checked) return checked;
    }
    if (Status fed = reader.feed(bytes.subspan(header)); !fed) return fed;
  }
  EXPECT_TRUE(reader.complete());
  return {};
}

TEST(RangeReader, EveryCutOfARangeGivesTheSameBlocks) {
  for (const KvLayout& layout : kLayouts) {
    for (const int tokens : {1, 16, 33}) {
      const Range range(layout, Tokens(tokens), 1);
      Pool expected(layout, Tokens(tokens), 2);
      for (int layer = 0; layer < layout.layers; ++layer) {
        scatter_layer(expected.view(), expected.table(), range.kv(), Tokens(tokens), layer);
      }
      const auto check = [&](const RangePieces& pieces) {
        Pool pool(layout, Tokens(tokens), 2);
        const Status status = read(range, pool, pieces);
        EXPECT_TRUE(status) << status.error().message;
        EXPECT_TRUE(std::ranges::equal(pool.bytes(), expected.bytes()));
      };
      for (const std::int64_t most : {1L, 100L, 4096L, 10000L, 1L << 40}) {
        check(RangePieces::contiguous(layout, Tokens(tokens), Bytes(most), true));
        check(RangePieces::contiguous(layout, Tokens(tokens), Bytes(most), false));
      }
      check(RangePieces::per_block(layout, Tokens(tokens), true));
    }
  }
}

TEST(RangePieces, AWholeRangeIsOnePieceAndBlocksAreOneEach) {
  const KvLayout& layout = kLayouts[0];
  const auto count = [](RangePieces pieces) {
    int n = 0;
    while (pieces.next()) ++n;
    return n;
  };
  EXPECT_EQ(count(RangePieces::contiguous(layout, Tokens(33), Bytes(1 << 30), true)), 1);
  // Header, 3 blocks in each of 6 planes, and the header again.
  EXPECT_EQ(count(RangePieces::per_block(layout, Tokens(33), true)), 1 + 3 * 6 + 1);
  EXPECT_EQ(count(RangePieces::per_block(layout, Tokens(33), false)), 1 + 3 * 6);
}

TEST(RangeReader, OneWrongBitInAnyLayerIsNamed) {
  const KvLayout& layout = kLayouts[0];
  for (int layer = 0; layer < layout.layers; ++layer) {
    for (const int k_or_v : {0, 1}) {
      Range range(layout, Tokens(20), 1);
      Pool pool(layout, Tokens(20), 2);
      const auto at =
          static_cast<std::size_t>(layout.plane_offset(layer, k_or_v, Tokens(20)).value() + 17);
      range.kv()[at] ^= std::byte{4};
      const Status status =
          read(range, pool, RangePieces::contiguous(layout, Tokens(20), Bytes(1000), false));
      ASSERT_FALSE(status);
      EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
      EXPECT_NE(status.error().message.find("layer " + std::to_string(layer)), std::string::npos);
    }
  }
}

TEST(KvRange, EveryDifferenceFromTheDescriptorIsNamed) {
  const KvLayout& layout = kLayouts[0];
  const Range range(layout, Tokens(5), 1);
  const auto said = [&](const KvLayout& expected, auto change) -> std::string {
    KvRangeTicket ticket = range.ticket();
    change(ticket);
    const Status status = check_range_header(expected, range.bytes(), ticket);
    if (status) return "";
    EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
    return status.error().message;
  };
  const auto same = [](KvRangeTicket&) {};
  EXPECT_EQ(said(layout, same), "");
  EXPECT_NE(said(layout, [](auto& t) { t.epoch = Epoch(99); }).find("epoch"), std::string::npos);
  EXPECT_NE(said(layout, [](auto& t) { t.read_key.high ^= 1; }).find("key"), std::string::npos);
  EXPECT_NE(said(layout, [](auto& t) { t.read_key.low ^= 1; }).find("key"), std::string::npos);
  EXPECT_NE(said(layout, [](auto& t) { t.tokens = Tokens(6); }).find("token"), std::string::npos);
  KvLayout other = layout;
  other.block_tokens = 8;
  EXPECT_NE(said(other, same).find("layout"), std::string::npos);
}

TEST(KvRange, ATruncatedHeaderAndAForeignMagicAreCorrupt) {
  const KvLayout& layout = kLayouts[0];
  Range range(layout, Tokens(5), 1);
  const auto header = static_cast<std::size_t>(range_header_bytes(layout).value());
  for (std::size_t n = 0; n < header; n += 7) {
    const Status status = check_range_header(layout, range.bytes().first(n), range.ticket());
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
  }
  range.bytes()[3] ^= std::byte{1};
  const Status status = check_range_header(layout, range.bytes(), range.ticket());
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
}

TEST(KvRange, WhatIsInvalidatedIsNotBelievedAgain) {
  const KvLayout& layout = kLayouts[0];
  Range range(layout, Tokens(5), 1);
  invalidate_range(range.bytes());
  const Status status = check_range_header(layout, range.bytes(), range.ticket());
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
  // No read key is left for the next one to read.
  const std::span<const std::byte> start = range.bytes().first(56);
  EXPECT_TRUE(std::ranges::all_of(start, [](std::byte b) { return b == std::byte{0}; }));
}

TEST(RangeReader, ARangeThatIsGivenUpWhileItIsReadIsRefusedByTheSecondLook) {
  const KvLayout& layout = kLayouts[0];
  Range range(layout, Tokens(40), 1);
  Pool pool(layout, Tokens(40), 2);
  RangeReader reader(pool.view(), pool.table(), range.ticket());
  const auto header =
      range.bytes().first(static_cast<std::size_t>(range_header_bytes(layout).value()));
  ASSERT_TRUE(reader.header(header));
  ASSERT_TRUE(reader.feed(range.kv()));
  ASSERT_TRUE(reader.header_again(header));
  invalidate_range(range.bytes());
  EXPECT_EQ(reader.header_again(header).error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace pd::transfer
