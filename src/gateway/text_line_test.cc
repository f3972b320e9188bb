#include "gateway/text_line.h"

#include <gtest/gtest.h>

#include <chrono>

namespace pd::gateway {
namespace {

using policy::TenantId;
using std::chrono::milliseconds;

constexpr TenantId kHog(1), kOther(2), kThird(3);

WaitingText text(TenantId tenant, int bytes = 1) { return {tenant, Bytes(bytes), nullptr, {}}; }

class TextLineTest : public testing::Test {
 protected:
  bool add(TenantId tenant, int bytes = 1) { return line_.add(text(tenant, bytes)); }
  // Whose text it was; 0: nobody's.
  TenantId read_one(Duration took = milliseconds(1)) {
    const auto next = line_.next();
    if (!next) return TenantId();
    line_.ended(*next, took);
    return next->tenant;
  }
  TextLine line_{{.items = 100, .bytes = Bytes(1000)}};
};

TEST_F(TextLineTest, ATenantsTextsAreReadInTheirOrder) {
  EXPECT_TRUE(line_.empty());
  for (int bytes = 1; bytes <= 3; ++bytes) EXPECT_TRUE(add(kHog, bytes));
  for (int bytes = 1; bytes <= 3; ++bytes) {
    const auto next = line_.next();
    ASSERT_TRUE(next);
    EXPECT_EQ(next->bytes, Bytes(bytes));
    line_.ended(*next, milliseconds(1));
  }
  EXPECT_TRUE(line_.empty());
  EXPECT_FALSE(line_.next());
}

TEST_F(TextLineTest, TenantsTakeTurnsHoweverManyTextsOneHas) {
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(add(kHog));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(add(kOther));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(read_one(), kHog);
    EXPECT_EQ(read_one(), kOther);
  }
  EXPECT_EQ(read_one(), kHog);
}

TEST_F(TextLineTest, TurnsAreOfTimeNotOfTexts) {
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(add(kHog));
  EXPECT_EQ(read_one(milliseconds(500)), kHog);
  for (int i = 0; i < 30; ++i) EXPECT_TRUE(add(kOther));
  for (int i = 0; i < 30; ++i) EXPECT_EQ(read_one(milliseconds(10)), kOther) << i;
  EXPECT_EQ(read_one(), kHog);
}

TEST_F(TextLineTest, WhoComesWhileALongOneIsReadIsNext) {
  EXPECT_TRUE(add(kHog));
  EXPECT_TRUE(add(kHog));
  const auto long_one = line_.next();
  EXPECT_TRUE(add(kOther));
  line_.ended(*long_one, milliseconds(500));
  EXPECT_EQ(read_one(), kOther);
  EXPECT_EQ(read_one(), kHog);
}

TEST_F(TextLineTest, WhoComesOneByOneIsChargedAllTheSame) {
  EXPECT_TRUE(add(kHog));
  EXPECT_EQ(read_one(milliseconds(100)), kHog);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(add(kOther));
  EXPECT_TRUE(add(kHog));  // its line was empty meanwhile
  for (int i = 0; i < 10; ++i) EXPECT_EQ(read_one(milliseconds(9)), kOther) << i;
  EXPECT_EQ(read_one(), kHog);
}

TEST_F(TextLineTest, NothingIsSavedUpWhileAway) {
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(add(kHog));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(read_one(milliseconds(100)), kHog);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(add(kOther));
  EXPECT_EQ(read_one(milliseconds(200)), kOther);
  EXPECT_EQ(read_one(milliseconds(200)), kHog);
  EXPECT_EQ(read_one(milliseconds(200)), kOther);
}

TEST_F(TextLineTest, OneTenantFillsHalfOfTheBytes) {
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(add(kHog, 100)) << i;
  EXPECT_FALSE(add(kHog, 100));
  // Of what it leaves another one may hold half, and a third still finds room.
  EXPECT_TRUE(add(kOther, 200));
  EXPECT_FALSE(add(kOther, 100));
  EXPECT_TRUE(add(kThird, 150));
  // What is being read is still held.
  const auto reading = line_.next();
  EXPECT_EQ(reading->tenant, kHog);
  EXPECT_FALSE(add(kHog, 100));
  line_.ended(*reading, milliseconds(1));
  EXPECT_FALSE(add(kHog, 100)) << "the others have what it had";
  while (!line_.empty()) read_one();
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(add(kHog, 100)) << i;
}

TEST_F(TextLineTest, OneTenantFillsHalfOfThePlaces) {
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(add(kHog)) << i;
  EXPECT_FALSE(add(kHog));
  EXPECT_TRUE(add(kOther));
}

TEST_F(TextLineTest, TheOnlyOneOfATenantIsAsLargeAsItLikesWhileThereIsRoom) {
  EXPECT_TRUE(add(kHog, 700));
  EXPECT_FALSE(add(kHog, 1));
  EXPECT_TRUE(add(kOther, 5000));
  EXPECT_FALSE(add(kThird, 1)) << "nothing is left";
  EXPECT_EQ(read_one(), kHog);
  EXPECT_EQ(read_one(), kOther);
  EXPECT_TRUE(add(kThird, 1));
}

}  // namespace
}  // namespace pd::gateway
