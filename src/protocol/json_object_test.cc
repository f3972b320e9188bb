#include "protocol/json_object.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/time.h"

namespace pd::protocol {
namespace {

using testing::HasSubstr;

// {"k0":0,"k1":0,...} of about so many bytes.
std::string many_keys(std::size_t bytes) {
  std::string out = "{";
  for (int i = 0; out.size() < bytes; ++i) out += fmt::format("{}\"k{}\":0", i > 0 ? "," : "", i);
  return out + "}";
}

std::expected<nlohmann::ordered_json, std::string> convert(const std::string& text,
                                                           const JsonBounds& bounds = {}) {
  simdjson::dom::parser parser;
  return to_ordered_json(parser.parse(text), bounds);
}

TEST(ToOrderedJson, KeepsOrderAndTheLastOfAKeyGivenTwice) {
  const auto json = convert(R"({"b":1,"a":{"x":[1,-2,1.5,"t",true,null]},"b":2})");
  ASSERT_TRUE(json) << json.error();
  EXPECT_EQ(json->dump(), R"({"b":2,"a":{"x":[1,-2,1.5,"t",true,null]}})");
}

TEST(ToOrderedJson, SaysWhichBoundIsPassed) {
  EXPECT_TRUE(convert(R"({"a":{"b":1}})", {.depth_max = 3}));
  EXPECT_THAT(convert(R"({"a":{"b":1}})", {.depth_max = 2}).error(), HasSubstr("deeper than 2"));
  EXPECT_TRUE(convert(R"([{"a":1,"b":1},{"c":1}])", {.keys_max = 2}));
  EXPECT_THAT(convert(R"([{"a":1,"b":1,"c":1}])", {.keys_max = 2}).error(),
              HasSubstr("more than 2 keys"));
}

TEST(ToOrderedJson, TakesTimeInProportionToItsKeys) {
  const JsonBounds bounds{.keys_max = 1 << 24};
  const auto time_of = [&](const std::string& text) {
    simdjson::dom::parser parser;
    const simdjson::dom::element element = parser.parse(text);
    Duration best = std::chrono::hours(1);
    for (int i = 0; i < 3; ++i) {
      const Time begin = SteadyTime::now();
      EXPECT_TRUE(to_ordered_json(element, bounds));
      best = std::min(best, SteadyTime::now() - begin);
    }
    return best;
  };
  const Duration quarter = time_of(many_keys(1 << 18));
  // In proportion it is four times that, and as the square sixteen times.
  EXPECT_LT(time_of(many_keys(1 << 20)), 10 * quarter);
}

TEST(JsonObject, OfTooManyKeysIsNotRead) {
  simdjson::dom::parser parser;
  JsonObject object(*parse_object(parser, R"({"a":"x","b":1,"c":1})"), {.keys_max = 2});
  EXPECT_FALSE(object.string("a"));
  EXPECT_THAT(object.finish()->message, HasSubstr("more than 2 keys"));
}

}  // namespace
}  // namespace pd::protocol
