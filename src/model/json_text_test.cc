#include "model/json_text.h"

#include <gtest/gtest.h>

#include "base/text.h"

namespace pd::model {
namespace {

TEST(ParseJson, BuildsTheTree) {
  const auto value = parse_json(R"({"a": [1, -2, 2.5, true, null, {"b": "c"}], "d": {}})", "f");
  ASSERT_TRUE(value);
  EXPECT_EQ(*value, nlohmann::json::parse(R"({"a": [1,-2,2.5,true,null,{"b":"c"}],"d":{}})"));
}

TEST(ParseJson, ErrorsAreOneLineWithTheFile) {
  const auto problem = [](std::string_view text) {
    const auto value = parse_json(text, "model/config.json");
    return value ? std::string("accepted") : value.error().message;
  };
  EXPECT_EQ(problem(R"({"a": 1, "b": {"a": 2, "a": 3}})"),
            "model/config.json: the key 'a' occurs twice in one object");
  EXPECT_EQ(problem("{\"a\": tru}"),
            "model/config.json: not valid JSON: parse error at line 1, column 10: syntax error "
            "while parsing value - invalid literal");
  EXPECT_TRUE(problem("").starts_with("model/config.json: not valid JSON: parse error"));
  EXPECT_TRUE(problem("{} {}").starts_with("model/config.json: not valid JSON: parse error"));
  EXPECT_TRUE(problem("[1e999]").starts_with("model/config.json: not valid JSON"));
  EXPECT_TRUE(is_valid_utf8(problem("[\"\xff\xfe\"]")));
  EXPECT_EQ(problem("[1,\n\x01]").find('\n'), std::string::npos);
}

TEST(ParseJson, DepthIsBounded) {
  const auto nested = [](std::size_t levels) {
    return std::string(levels, '[') + std::string(levels, ']');
  };
  EXPECT_TRUE(parse_json(nested(64), "f"));
  ASSERT_FALSE(parse_json(nested(65), "f"));
  EXPECT_EQ(parse_json(nested(1'000'000), "f").error().message, "f: nested deeper than 64 levels");
}

TEST(Quote, EscapesAndCutsBetweenCharacters) {
  EXPECT_EQ(quote("a\nb\xff"), "'a\\nb\xEF\xBF\xBD'");
  std::string umlauts;
  for (int i = 0; i < 80; ++i) umlauts += "ä";
  const std::string shown = quote("x" + umlauts);
  EXPECT_TRUE(is_valid_utf8(shown));
  EXPECT_TRUE(shown.ends_with("ä...'"));
  EXPECT_LT(shown.size(), 110U);
}

}  // namespace
}  // namespace pd::model
