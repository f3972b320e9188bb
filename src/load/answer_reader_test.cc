#include "load/answer_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pd::load {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

Time at(int ms) { return Time{} + std::chrono::milliseconds(ms); }

TEST(AnswerReader, TimesPiecesOfAStream) {
  AnswerReader reader(true, true);
  reader.head(200);
  reader.feed(R"(data: {"choices":[{"delta":{"role":"assistant","content":""}}]})"
              "\n\n",
              at(1));
  reader.feed(R"(data: {"choices":[{"delta":{"content":"Hel"}}],"usage":null})"
              "\n\n",
              at(5));
  reader.feed(R"(data: {"choices":[{"delta":{"cont)", at(7));
  reader.feed(R"(ent":"lo"}}]})"
              "\n\n",
              at(8));
  reader.feed(R"(data: {"choices":[{"delta":{},"finish_reason":"stop"}]})"
              "\n\n",
              at(9));
  reader.feed(R"(data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,)"
              R"("prompt_tokens_details":{"cached_tokens":8}}})"
              "\n\ndata: [DONE]\n\n",
              at(10));
  EXPECT_EQ(reader.verdict(), "");
  EXPECT_EQ(reader.pieces(), (std::vector<Time>{at(5), at(8)}));
  EXPECT_EQ(reader.text(), "Hello");
  EXPECT_EQ(reader.prompt_tokens(), 12U);
  EXPECT_EQ(reader.cached_tokens(), 8U);
  EXPECT_EQ(reader.output_tokens(), 3U);
  EXPECT_TRUE(reader.has_usage());
}

TEST(AnswerReader, CountsPiecesWhereTheServerDoesNot) {
  AnswerReader reader(true, false);
  reader.head(200);
  for (int i = 0; i < 4; ++i)
    reader.feed(R"(data: {"choices":[{"text":"x"}]})"
                "\n\n",
                at(i));
  reader.feed("data: [DONE]\n\n", at(9));
  EXPECT_EQ(reader.verdict(), "");
  EXPECT_EQ(reader.output_tokens(), 4U);
  EXPECT_FALSE(reader.has_usage());
  AnswerReader whole(false, false);
  whole.head(200);
  whole.feed(R"({"choices":[{"text":"x y z"}]})", at(1));
  EXPECT_EQ(whole.verdict(), "") << "it is no empty answer";
  EXPECT_EQ(whole.output_tokens(), 1U);
  EXPECT_FALSE(whole.has_usage());
  EXPECT_EQ(reader.text(), "");
}

TEST(AnswerReader, ThoughtsAndCallsAreOutput) {
  AnswerReader reader(true, true);
  reader.head(200);
  reader.feed(R"(data: {"choices":[{"delta":{"reasoning_content":"hm"}}]})"
              "\n\n",
              at(1));
  reader.feed(R"(data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]})"
              "\n\n",
              at(2));
  EXPECT_EQ(reader.pieces().size(), 2U);
  EXPECT_EQ(reader.text(), "");
}

TEST(AnswerReader, ReadsWholeAnswers) {
  AnswerReader reader(false, true);
  reader.head(200);
  reader.feed(R"({"choices":[{"message":{"content":"Hello"}}],)", at(3));
  reader.feed(R"("usage":{"prompt_tokens":5,"completion_tokens":2}})", at(4));
  EXPECT_EQ(reader.verdict(), "");
  EXPECT_EQ(reader.text(), "Hello");
  EXPECT_EQ(reader.output_tokens(), 2U);
  EXPECT_EQ(reader.pieces(), (std::vector<Time>{at(4)}));
}

TEST(AnswerReader, SaysWhatIsWrong) {
  const auto verdict = [](int status, std::string_view body, bool streamed = true) {
    AnswerReader reader(streamed, false);
    reader.head(status);
    reader.feed(body, at(1));
    return reader.verdict();
  };
  const std::string token = R"(data: {"choices":[{"text":"x"}]})"
                            "\n\n";
  EXPECT_EQ(verdict(200, token + "data: [DONE]\n\n"), "");
  EXPECT_THAT(verdict(200, token), HasSubstr("before [DONE]"));
  EXPECT_THAT(verdict(200, "data: [DONE]\n\n"), HasSubstr("empty"));
  EXPECT_THAT(verdict(200, token + "data: nonsense\n\ndata: [DONE]\n\n"), HasSubstr("not JSON"));
  EXPECT_EQ(verdict(200, token + R"(data: {"error":{"message":"gone"}})"
                                 "\n\n"),
            "gone");
  EXPECT_EQ(verdict(429, R"({"error":{"message":"busy","code":1}})"), "HTTP 429: busy");
  EXPECT_EQ(verdict(502, "<html>"), "HTTP 502: the answer holds what is not JSON");
  EXPECT_THAT(verdict(200, "nonsense", false), HasSubstr("not JSON"));
  EXPECT_THAT(verdict(200, "{}", false), HasSubstr("empty"));
}

}  // namespace
}  // namespace pd::load
