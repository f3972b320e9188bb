#include "protocol/json_numbers.h"

#include <gtest/gtest.h>

namespace pd::protocol {
namespace {

TEST(HasLongNumber, OfMoreThan18SignificantDigits) {
  for (const char* text :
       {"99999999999999999999", "[1,-99999999999999999999]", "18446744073709551616",
        "-9223372036854775809000", "1.2345678901234567890", "2.225073858507201137e-308",
        "-9999999999999999999", "0.00000001234567890123456789e7", "-1.7976931348623157081111e-308",
        "0.00012345678901234567890", "99999999999999999999e0", "[\"\\\"\",12345678901234567890.5]",
        "1000000000000000000000000000000"})
    EXPECT_TRUE(has_long_number(text)) << text;
  for (const char* text :
       {"", "1", "18446744073709551615", "-9223372036854775808", "0.00000000000000000000000000001",
        "-0.00012345678901234567", "\"99999999999999999999\"", "[\"\\\"99999999999999999999\"]",
        "[1234567890,1234567890,1234567890]", "1.2e00000000000000000000000000001",
        "........................"})
    EXPECT_FALSE(has_long_number(text)) << text;
}

TEST(HasLongNumber, WhereverItStands) {
  const std::string number = "99999999999999999999";
  for (std::size_t before = 0; before < 50; ++before) {
    for (std::size_t behind = 0; behind < 50; ++behind)
      EXPECT_TRUE(has_long_number(std::string(before, ' ') + number + std::string(behind, ' ')));
  }
}

TEST(WithWideIntegers, OnlyThoseGetAnExponent) {
  EXPECT_EQ(with_wide_integers("[18446744073709551615,18446744073709551616,1]"),
            "[18446744073709551615,18446744073709551616e0,1]");
  EXPECT_EQ(with_wide_integers("[99999999999999999999.5,\"99999999999999999999\"]"),
            "[99999999999999999999.5,\"99999999999999999999\"]");
  EXPECT_EQ(with_wide_integers("-9223372036854775809"), "-9223372036854775809e0");
}

}  // namespace
}  // namespace pd::protocol
