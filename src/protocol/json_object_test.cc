#include "protocol/json_object.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

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

// As many as a body of 10 MiB holds, each with a thousandth of them before it at the most.
TEST(ToOrderedJson, KeepsEveryKeyOfManyObjects) {
  const JsonBounds bounds{.keys_max = 2048};
  const std::string object = many_keys(16 * 1024);
  std::string list = "[" + object;
  for (int i = 0; i < 600; ++i) list += "," + object;
  const auto json = convert(list + "]", bounds);
  ASSERT_TRUE(json) << json.error();
  ASSERT_EQ(json->size(), 601U);
  EXPECT_GT(json->front().size(), 1000U);
  EXPECT_EQ(json->back().dump(), object);
}

TEST(JsonObject, OfTooManyKeysIsNotRead) {
  BodyParser parser;
  JsonObject object(*parse_object(parser, R"({"a":"x","b":1,"c":1})"), {.keys_max = 2});
  EXPECT_FALSE(object.string("a"));
  EXPECT_THAT(object.finish()->message, HasSubstr("more than 2 keys"));
}

std::string complaint(const std::string& body) {
  BodyParser parser;
  const auto object = parse_object(parser, body);
  if (object) return "";
  EXPECT_EQ(object.error().code, "invalid_json");
  return object.error().message;
}

TEST(ParseObject, LongNumbersAreReadInShortBodiesOnly) {
  const auto body = [](const std::string& number, std::size_t size) {
    return fmt::format(R"({{"n":{},"x":"{}"}})", number, std::string(size, 'x'));
  };
  for (const char* number : {"99999999999999999999", "2.225073858507201137e-308"}) {
    EXPECT_EQ(complaint(body(number, 100'000)), "") << number;
    EXPECT_THAT(complaint(body(number, 300'000)), HasSubstr("out of range")) << number;
  }
  for (const char* number : {"18446744073709551615", "1.5e-300", "\"99999999999999999999\""})
    EXPECT_EQ(complaint(body(number, 300'000)), "") << number;
}

TEST(ParseObject, ANumberOutOfRangeIsStillJson) {
  for (const char* number : {"1e999", "-1e999", "01", "1.", "-"}) {
    EXPECT_EQ(complaint(fmt::format(R"({{"prompt":"a","temperature":{}}})", number)),
              "a number in the JSON body is malformed or out of range")
        << number;
  }
  EXPECT_THAT(complaint("{]"), HasSubstr("not valid JSON"));
}

// One inside the other, a large one, and again a small one.
TEST(BodyParser, KeepsEachDocumentForAsLongAsItLives) {
  for (int i = 0; i < 3; ++i) {
    BodyParser outer;
    JsonObject first(*parse_object(outer, R"({"a":"outer"})"), {});
    {
      BodyParser inner;
      const std::string large = R"({"a":")" + std::string(200'000, 'x') + R"("})";
      JsonObject second(*parse_object(inner, large), {});
      EXPECT_EQ(second.string("a")->size(), 200'000U);
    }
    BodyParser last;
    JsonObject third(*parse_object(last, R"({"a":"last"})"), {});
    EXPECT_EQ(third.string("a"), "last");
    EXPECT_EQ(first.string("a"), "outer");
  }
}

}  // namespace
}  // namespace pd::protocol
