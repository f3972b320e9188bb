#include "bench/token_checker.h"

#include <gtest/gtest.h>

#include "bench/numbered_tokens.h"

namespace pd::bench {
namespace {

using Kind = NumberedTokens::Kind;

std::string stream(Kind kind, const std::vector<std::uint32_t>& indices) {
  NumberedTokens tokens;
  std::string out = tokens.opening(kind);
  for (const std::uint32_t index : indices) out += tokens.event(kind, index);
  return out + tokens.closing(kind);
}

std::string verdict(std::string_view answer, std::uint32_t tokens, bool streamed = true) {
  TokenChecker checker(streamed);
  checker.feed(answer);
  return checker.verdict(tokens);
}

TEST(TokenChecker, AcceptsEveryKindOfAnswerInAnyCut) {
  for (const Kind kind : {Kind::kChat, Kind::kCompletion}) {
    const std::string whole = stream(kind, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
    EXPECT_EQ(verdict(whole, 12), "");
    TokenChecker bytewise(true);
    for (const char c : whole) bytewise.feed({&c, 1});
    EXPECT_EQ(bytewise.verdict(12), "");
    EXPECT_EQ(verdict(NumberedTokens::answer(kind, 12), 12, false), "");
  }
}

TEST(TokenChecker, CountsATokenWhenItsFirstDigitComes) {
  NumberedTokens tokens;
  TokenChecker checker(true);
  checker.feed(tokens.opening(Kind::kChat));
  EXPECT_EQ(checker.tokens(), 0U);
  checker.feed(tokens.event(Kind::kChat, 0));
  EXPECT_EQ(checker.tokens(), 1U);
}

TEST(TokenChecker, AcceptsTokensThatAServerMergedOrSplit) {
  const auto event = [](std::string_view text) {
    return "data: {\"choices\":[{\"text\":\"" + std::string(text) + "\"}]}\n\n";
  };
  EXPECT_EQ(verdict(event("0 1 2") + event(" 1") + "data: [DONE]\n\n", 4),
            "token 1 came where 3 was due");
  EXPECT_EQ(verdict(event("0 1 ") + event("2 3") + "data: [DONE]\n\n", 4), "");
  EXPECT_EQ(verdict(event("0 1 2 3 4 5 6 7 8 9 1") + event("0") + "data: [DONE]\n\n", 11), "");
}

TEST(TokenChecker, NamesWhatIsWrong) {
  EXPECT_EQ(verdict(stream(Kind::kChat, {0, 2}), 2), "token 2 came where 1 was due");
  EXPECT_EQ(verdict(stream(Kind::kChat, {0, 1, 1}), 3), "token 1 came where 2 was due");
  EXPECT_EQ(verdict(stream(Kind::kChat, {0, 1}), 3), "2 tokens came, 3 were asked for");
  const std::string whole = stream(Kind::kChat, {0, 1});
  const std::string_view cut = std::string_view(whole).substr(0, whole.find("data: [DONE]"));
  EXPECT_EQ(verdict(cut, 2), "the stream ended without [DONE]");
  EXPECT_EQ(verdict(whole + whole, 2), "bytes after [DONE]");
  EXPECT_EQ(verdict("data: {\"error\":{}}\n\n", 2), "no answer: {\"error\":{}}");
  EXPECT_EQ(verdict("event: error\n\n", 2), "not data: event: error");
  EXPECT_EQ(verdict("busy", 2, false), "no answer: busy");
}

}  // namespace
}  // namespace pd::bench
