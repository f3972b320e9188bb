#include "model/chat_template/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "base/mapped_file.h"

namespace pd::model {
namespace {

const std::filesystem::path kData =
    std::filesystem::path(PD_SOURCE_DIR) / "tests/data/chat_template";

// Made by Jinja2 itself (tools/make_template_vectors.py): vendors' templates with many
// conversations, and small pieces that pin the semantics.
TEST(ChatTemplate, RendersExactlyAsJinja2Does) {
  std::ifstream file(kData / "vectors.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(file, line));
  const auto now = Json::parse(line)["now"].get<std::int64_t>();
  std::map<std::string, int> conversations;
  int checked = 0;
  while (std::getline(file, line)) {
    const Json row = Json::parse(line);
    std::string source = row.value("source", "");
    if (row.contains("template")) {
      source = read_file(kData / "templates" / row["template"].get<std::string>(), 1 << 20).value();
      ++conversations[row["template"].get<std::string>()];
    }
    ++checked;
    auto parsed = ChatTemplate::parse(source);
    const auto result = parsed ? parsed->render(row["variables"], now)
                               : Result<std::string>(std::unexpected(parsed.error()));
    if (row.contains("text")) {
      ASSERT_TRUE(result) << source.substr(0, 200) << "\n"
                          << row["variables"] << "\n"
                          << result.error().message;
      ASSERT_EQ(*result, row["text"].get<std::string>()) << source.substr(0, 200) << "\n"
                                                         << row["variables"];
    } else {
      ASSERT_FALSE(result) << source.substr(0, 200) << "\n" << row["variables"] << "\n" << *result;
      // The template's own words arrive unchanged; Python's need not.
      const auto words = row["error"].get<std::string>();
      if (!words.empty()) {
        ASSERT_EQ(result.error().message, words);
      }
    }
  }
  EXPECT_GE(checked, 600);
  EXPECT_GE(conversations.size(), 11u);
  for (const auto& [name, count] : conversations) EXPECT_GE(count, 20) << name;
}

std::string refusal(std::string_view source) {
  const auto parsed = ChatTemplate::parse(source);
  return parsed ? "accepted" : parsed.error().message;
}

TEST(ChatTemplate, RefusesWhatItDoesNotServeByNameAndLine) {
  EXPECT_THAT(refusal("a\n{% include 'x' %}"),
              testing::HasSubstr("line 2: the tag 'include' is not supported"));
  EXPECT_THAT(refusal("{{ x | urlize }}"),
              testing::HasSubstr("the filter 'urlize' is not supported"));
  EXPECT_THAT(refusal("{{ x is filter }}"),
              testing::HasSubstr("the test 'filter' is not supported"));
  EXPECT_THAT(refusal("{% if x %}"), testing::HasSubstr("'endif' is missing"));
  EXPECT_THAT(refusal("{{ 'x }}"), testing::HasSubstr("a string is not closed"));
  EXPECT_THAT(refusal("{% wat %}"), testing::HasSubstr("unknown tag 'wat'"));
  EXPECT_THAT(refusal("{{ f(*x) }}"), testing::HasSubstr("argument unpacking"));
  EXPECT_THAT(refusal("{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}"),
              testing::HasSubstr("nested too deeply"));
}

std::string failure(std::string_view source) {
  const auto result = ChatTemplate::parse(source)->render(Json::object(), 0);
  return result ? "rendered" : result.error().message;
}

TEST(ChatTemplate, HostileTemplatesEnd) {
  const std::string range = "range(100000)";
  EXPECT_THAT(
      failure("{% for a in " + range + " %}{% for b in " + range + " %}{% endfor %}{% endfor %}"),
      testing::HasSubstr("too many steps"));
  EXPECT_THAT(failure("{{ 'x' * 1000000000000 }}"), testing::HasSubstr("too long"));
  EXPECT_THAT(failure("{{ range(10000000) }}"), testing::HasSubstr("Range too big"));
  EXPECT_THAT(failure("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
              testing::HasSubstr("too deeply"));
  EXPECT_THAT(failure("{{ 9223372036854775807 + 1 }}"), testing::HasSubstr("64 bits"));
  EXPECT_THAT(
      failure("{% set x = 'aaaaaaaaaa' * 1000000 %}{% for i in range(100) %}{{ x }}{% endfor %}"),
      testing::HasSubstr("too long"));
}

TEST(ChatTemplate, VariablesMustBeAnObject) {
  EXPECT_FALSE(ChatTemplate::parse("x")->render(Json::array(), 0));
}

}  // namespace
}  // namespace pd::model
