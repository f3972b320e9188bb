#include "base/units.h"

#include <gtest/gtest.h>

namespace pd {
namespace {

TEST(Units, BlocksForRoundsUp) {
  EXPECT_EQ(blocks_for(Tokens{0}, Tokens{16}), BlockCount{0});
  EXPECT_EQ(blocks_for(Tokens{1}, Tokens{16}), BlockCount{1});
  EXPECT_EQ(blocks_for(Tokens{16}, Tokens{16}), BlockCount{1});
  EXPECT_EQ(blocks_for(Tokens{17}, Tokens{16}), BlockCount{2});
}

TEST(Units, AmountsAddAndCompareWithTheirOwnKind) {
  EXPECT_EQ(Tokens{3} + Tokens{4}, Tokens{7});
  EXPECT_LT(Bytes{3}, Bytes{4});
  static_assert(!std::is_convertible_v<Tokens, BlockCount>);
  static_assert(!std::is_convertible_v<BlockIndex, BlockCount>);
}

}  // namespace
}  // namespace pd
