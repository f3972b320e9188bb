#include "model/chat_template/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
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

TEST(ChatTemplate, OperandsAtTheEndsOfTheirRangeAreRefusedOrRight) {
  // 16 characters 2^60 times are 0 bytes in 64 bits.
  EXPECT_THAT(failure("{{ '0123456789abcdef' * 1152921504606846976 }}"),
              testing::HasSubstr("long"));
  EXPECT_THAT(failure("{{ [1, 2] * 9223372036854775807 }}"), testing::HasSubstr("long"));
  EXPECT_EQ(failure("{{ '' * 9223372036854775807 }}{{ [] * 9223372036854775807 }}"), "rendered");
  EXPECT_THAT(failure("{{ 2 ** 63 }}"), testing::HasSubstr("64 bits"));
  EXPECT_THAT(failure("{{ 1e19 | int }}"), testing::HasSubstr("64 bits"));
  EXPECT_THAT(failure("{{ '-1e19' | int }}"), testing::HasSubstr("64 bits"));
  const auto right = ChatTemplate::parse(
                         "{{ 1 ** 9223372036854775807 }} {{ (-1) ** 9223372036854775807 }} "
                         "{{ 0 ** 9223372036854775807 }} {{ 3 ** 39 }} {{ (-2) ** 63 }} "
                         "{{ 'abcdef'[5::9223372036854775807] }} {{ 'nan' | int(7) }}")
                         ->render(Json::object(), 0);
  EXPECT_EQ(*right, "1 -1 0 4052555153018976267 -9223372036854775808 f 7");
}

TEST(ChatTemplate, OnlyNumbersAreRounded) {
  EXPECT_EQ(failure("{{ x | round }}"), "'x' is undefined");
  EXPECT_EQ(failure("{{ '2' | round }}"), "must be a number, not str");
  EXPECT_EQ(failure("{{ none | round }}"), "must be a number, not NoneType");
}

TEST(ChatTemplate, TextsGrowNoFurtherThanTheirLimit) {
  const std::string grow = "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(50) %}";
  EXPECT_THAT(failure(grow + "{% set n.x = n.x ~ n.x %}{% endfor %}"), testing::HasSubstr("long"));
  EXPECT_THAT(failure(grow + "{% set n.x = n.x | replace('a', n.x) %}{% endfor %}"),
              testing::HasSubstr("long"));
  EXPECT_THAT(failure(grow + "{% set n.x = n.x.join([n.x] * 1000) %}{% endfor %}"),
              testing::HasSubstr("long"));
}

TEST(ChatTemplate, ValuesGrowNoFurtherThanCanBeWalked) {
  const std::string grow = "{% set n = namespace(x=[]) %}{% for i in range(100000) %}";
  EXPECT_THAT(failure(grow + "{% set n.x = [n.x] %}{% endfor %}"), testing::HasSubstr("deeply"));
  EXPECT_THAT(failure(grow + "{% set n.x = {'k': n.x}.items %}{% endfor %}"),
              testing::HasSubstr("deeply"));
  EXPECT_THAT(failure(grow + "{% set n.x = [n.x, n.x] %}{% endfor %}"),
              testing::HasSubstr("too large"));
  for (const char* value : {"n", "[n]", "{'k': [n]}", "{'k': n}.items"}) {
    EXPECT_EQ(failure("{% set n = namespace() %}{% set n.x = " + std::string(value) + " %}"),
              "a namespace cannot hold a namespace")
        << value;
  }
  EXPECT_EQ(failure(grow + "{% set n.x = [i] %}{% endfor %}{{ n == n }}{{ n }}"), "rendered");
}

// What a client sends may be as long as a body.
TEST(ChatTemplate, LongConversationsCostNoMoreThanTheirLength) {
  std::string text;
  for (int i = 0; i < 500'000; ++i) text += "</think> ";
  Json variables{{"x", text}, {"messages", Json::array()}};
  for (int i = 0; i < 30'000; ++i) variables["messages"].push_back({{"content", "a"}});
  for (const char* source :
       {"{{ x.split('</think>') | length }}", "{{ x.rsplit('</think>') | length }}",
        "{{ x.split() | length }}", "{{ x.rsplit() | length }}",
        "{% for m in messages %}{% set y = messages[loop.index0] %}{% endfor %}{{ 500001 }}",
        "{% macro f() %}{{ 500001 }}{% endmacro %}{% set z = x %}"
        "{% for m in messages %}{% set y = f() %}{% endfor %}{{ 500001 }}"}) {
    const std::clock_t begin = std::clock();
    const auto out = ChatTemplate::parse(source)->render(variables, 0);
    ASSERT_TRUE(out) << source << out.error().message;
    EXPECT_TRUE(*out == "500001" || *out == "500000") << source << *out;
    EXPECT_LT(std::clock() - begin, 10 * CLOCKS_PER_SEC) << source;
  }
}

TEST(ChatTemplate, VariablesMustBeAnObject) {
  EXPECT_FALSE(ChatTemplate::parse("x")->render(Json::array(), 0));
}

}  // namespace
}  // namespace pd::model
