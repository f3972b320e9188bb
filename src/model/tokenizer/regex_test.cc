#include "model/tokenizer/regex.h"

#include <gtest/gtest.h>

#include <vector>

namespace pd::model::tokenizing {
namespace {

std::vector<std::string> matches(std::string_view pattern, std::string_view text) {
  const auto regex = Regex::create(pattern);
  EXPECT_TRUE(regex) << regex.error().message;
  if (!regex) return {};
  RegexScratch scratch;
  std::vector<std::string> out;
  const auto done = regex->find_all(text, scratch, [&](std::size_t begin, std::size_t end) {
    out.emplace_back(text.substr(begin, end - begin));
  });
  EXPECT_TRUE(done) << done.error().message;
  return out;
}

using Strings = std::vector<std::string>;

TEST(Regex, ClassesAreUnicodesAndNotPcres) {
  EXPECT_EQ(matches(R"(\s+)", "a\u00A0\u3000b\u180Ec\u0085"), (Strings{"\u00A0\u3000", "\u0085"}));
  EXPECT_EQ(matches(R"([^\s]+)", "a\u00A0b\u180Ec"), (Strings{"a", "b\u180Ec"}));
  EXPECT_EQ(matches(R"(\w+)", "e\u0301 a_b-c ١"), (Strings{"e\u0301", "a_b", "c", "١"}));
  EXPECT_EQ(matches(R"(\v)", "a\n\x0b"), (Strings{"\x0b"}));         // one character, not a class
  EXPECT_EQ(matches(R"(\p{Han}+)", "漢字、か"), (Strings{"漢字"}));  // script, not its extensions
}

TEST(Regex, CaseFoldingReachesTheLongS) {
  EXPECT_EQ(matches("(?i:'s)", "'s 'S 'ſ"), (Strings{"'s", "'S", "'ſ"}));
}

TEST(Regex, EmptyMatchesDoNotFollowAMatch) {
  EXPECT_EQ(matches("x*", "axxb"), (Strings{"", "xx", ""}));
  EXPECT_EQ(matches("x*", "é"), (Strings{"", ""}));
}

TEST(Regex, WhatWouldMeanSomethingElseIsRefusedByName) {
  for (const auto& [pattern, what] :
       std::vector<std::pair<std::string, std::string>>{{R"(\h)", R"('\h')"},
                                                        {R"(a\b)", R"('\b')"},
                                                        {R"(\R)", R"('\R')"},
                                                        {R"((a)\1)", R"('\1')"},
                                                        {R"([a&&b])", "'&&'"},
                                                        {R"([a[bc]])", "inside a"},
                                                        {R"([\W])", R"('\W')"},
                                                        {R"(a(?i)b)", "(?i)"},
                                                        {R"((?<n>a))", "(?<n"},
                                                        {R"((*UTF)a)", "verb"},
                                                        {R"(a{2}+)", "counted"},
                                                        {R"(a{)", "'{'"},
                                                        {R"([]a])", "']'"},
                                                        {R"(\pL)", "without braces"},
                                                        {R"([a)", "without its end"},
                                                        {R"(\xC3)", "above 7F"},
                                                        {R"(\u12)", "four digits"},
                                                        {R"((?m:a))", "(?m:"}}) {
    const auto regex = Regex::create(pattern);
    ASSERT_FALSE(regex) << pattern;
    EXPECT_EQ(regex.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(regex.error().message.find(what), std::string::npos) << regex.error().message;
  }
}

TEST(Regex, WhatIsNoExpressionIsInvalid) {
  for (const std::string pattern : {"(a", "a)", "*", "a**b)", R"(\p{Nonsense})"}) {
    const auto regex = Regex::create(pattern);
    ASSERT_FALSE(regex) << pattern;
    EXPECT_EQ(regex.error().code, ErrorCode::kInvalidArgument) << regex.error().message;
  }
  EXPECT_EQ(Regex::create(std::string(100'000, 'a')).error().code, ErrorCode::kTooLarge);
}

TEST(Regex, RunawayBacktrackingIsAnError) {
  const auto regex = Regex::create("(?:a|a)*b|(?:a+)+c");
  ASSERT_TRUE(regex);
  RegexScratch scratch;
  const auto done = regex->find_all(std::string(60, 'a'), scratch, [](auto, auto) {});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kInvalidArgument);
}

TEST(Regex, DeepMatchesGetALargerStack) {
  const std::string text = std::string(50'000, 'a') + "b";
  EXPECT_EQ(matches("(?:a|c)+b", text), (Strings{text}));
}

}  // namespace
}  // namespace pd::model::tokenizing
