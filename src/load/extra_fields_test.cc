#include "load/extra_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pd::load {
namespace {

using ::testing::HasSubstr;

TEST(ExtraFields, AreObjectsOrKeysWithValues) {
  EXPECT_EQ(*parse_extra_fields({}), "");
  EXPECT_EQ(*parse_extra_fields({"{}"}), "");
  EXPECT_EQ(*parse_extra_fields({R"({"temperature":0,"logit_bias":{"5":1}})"}),
            R"("temperature":0,"logit_bias":{"5":1})");
  EXPECT_EQ(*parse_extra_fields({"temperature=0.5", "user=me", "stop=[\"a\"]", "seed=null"}),
            R"("temperature":0.5,"user":"me","stop":["a"],"seed":null)");
  EXPECT_EQ(*parse_extra_fields({"user=a\"b=c"}), R"("user":"a\"b=c")");
}

TEST(ExtraFields, ErrorsSayWhatToWrite) {
  for (const char* bad : {"foo", "", "=1", "a b=1", "[1]", "\"temperature\":0", "{\"a\":", "7"}) {
    const auto parsed = parse_extra_fields({bad});
    ASSERT_FALSE(parsed) << bad;
    EXPECT_THAT(parsed.error().message, HasSubstr("write KEY=VALUE")) << bad;
  }
  for (const char* ours : {"model=x", R"({"max_tokens":5})", "stream=false"}) {
    const auto parsed = parse_extra_fields({ours});
    ASSERT_FALSE(parsed) << ours;
    EXPECT_THAT(parsed.error().message, HasSubstr("the load sets")) << ours;
  }
  EXPECT_THAT(parse_extra_fields({"a=1", "a=2"}).error().message, HasSubstr("twice"));
}

}  // namespace
}  // namespace pd::load
