#include "load/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace pd::load {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
constexpr std::size_t kAll = SIZE_MAX;
constexpr TokenRate kExact{};

std::size_t words(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count(text, ' '));
}

TEST(Prompt, HasTheLengthThatTheServerWillCount) {
  for (const std::uint32_t tokens : {1U, 2U, 63U, 64U, 1000U}) {
    EXPECT_EQ(words(text_of({{5, tokens}}, kExact, 1)), tokens);
    EXPECT_NEAR(static_cast<double>(words(text_of({{5, tokens}}, {2.5, 0}, 1))), tokens / 2.5, 0.6);
  }
  EXPECT_EQ(words(text_of({{5, 100}}, {1, 30}, 1)), 70U);
  EXPECT_EQ(words(text_of({{5, 10}}, {1, 30}, 1)), 1U) << "an overhead above the length: one word";
  EXPECT_EQ(words(text_of({}, kExact, 1)), 1U);
}

TEST(Prompt, EqualPiecesAreEqualText) {
  const std::string a = text_of({{1, 512}, {2, 512}, {3, 100}}, {1.3, 10}, 1);
  const std::string b = text_of({{1, 512}, {2, 512}, {4, 300}}, {1.3, 10}, 1);
  const auto differ = std::ranges::mismatch(a, b).in1 - a.begin();
  EXPECT_GE(words(std::string_view(a).substr(0, static_cast<std::size_t>(differ))), 1014 / 1.3 - 1);
  EXPECT_NE(text_of({{1, 512}}, kExact, 1), text_of({{2, 512}}, kExact, 1));
}

TEST(Prompt, AnotherTextSeedIsAnotherTextFromTheFirstWordsOn) {
  const std::string a = text_of({{1, 512}, {2, 512}}, kExact, 1);
  const std::string b = text_of({{1, 512}, {2, 512}}, kExact, 2);
  EXPECT_EQ(words(a), words(b));
  const auto same = std::ranges::mismatch(a, b).in1 - a.begin();
  EXPECT_LT(same, 40) << "no block of a prefix cache is common to both";
  EXPECT_EQ(a, text_of({{1, 512}, {2, 512}}, kExact, 1));
}

TEST(Workload, DrawsLengthsInTheirRange) {
  Rng rng(1);
  const Workload made = take(1000, unrelated({16, 512}, {1, 4}, rng));
  ASSERT_EQ(made.conversations.size(), 1000U);
  std::set<std::uint32_t> outputs;
  std::set<std::uint64_t> seeds;
  for (const auto& conversation : made.conversations) {
    const Ask& ask = conversation.turns.at(0);
    EXPECT_GE(ask.prompt[0].tokens, 16U);
    EXPECT_LE(ask.prompt[0].tokens, 512U);
    outputs.insert(ask.output_tokens);
    seeds.insert(ask.prompt[0].seed);
  }
  EXPECT_EQ(outputs, (std::set<std::uint32_t>{1, 2, 3, 4}));
  EXPECT_EQ(seeds.size(), 1000U);
}

TEST(Workload, SharesAsManyPrefixesAsAsked) {
  Rng rng(1);
  const Workload made = take(1000, shared_prefixes(7, 512, {10, 10}, {5, 5}, rng));
  std::set<std::uint64_t> prefixes;
  for (const auto& conversation : made.conversations) {
    prefixes.insert(conversation.turns[0].prompt[0].seed);
    EXPECT_EQ(conversation.turns[0].prompt[0].tokens, 512U);
  }
  EXPECT_EQ(prefixes.size(), 7U);
}

TEST(Workload, ConversationsBeginAlikeAndHaveTurns) {
  Rng rng(1);
  const Workload made = take(100, conversations({2, 5}, 200, {10, 20}, {5, 5}, rng));
  std::set<std::size_t> turns;
  std::set<std::uint64_t> systems;
  for (const auto& conversation : made.conversations) {
    turns.insert(conversation.turns.size());
    EXPECT_EQ(conversation.turns[0].prompt.size(), 2U);
    EXPECT_EQ(conversation.turns[1].prompt.size(), 1U);
    systems.insert(conversation.turns[0].prompt[0].seed);
  }
  EXPECT_EQ(turns, (std::set<std::size_t>{2, 3, 4, 5}));
  EXPECT_EQ(systems.size(), 1U);
  EXPECT_GT(made.asks(), 200U);
}

TEST(Mooncake, BlocksBecomePiecesThatAreShared) {
  const auto made = read_mooncake(
      R"({"timestamp": 1500, "input_length": 600, "output_length": 5, "hash_ids": [7, 8]}
{"timestamp": 0, "input_length": 1100, "output_length": 6, "hash_ids": [7, 9]}

{"timestamp": 20, "input_length": 3, "output_length": 7})",
      "t", kAll);
  ASSERT_TRUE(made) << made.error().message;
  ASSERT_EQ(made->conversations.size(), 3U);
  const Ask& first = made->conversations[0].turns[0];  // in order of time
  EXPECT_EQ(*first.at, 0s);
  ASSERT_EQ(first.prompt.size(), 3U) << "76 tokens are in no block";
  EXPECT_EQ(first.prompt[2].tokens, 76U);
  const Ask& last = made->conversations[2].turns[0];
  EXPECT_EQ(*last.at, 1500ms);
  EXPECT_EQ(last.prompt[0].seed, first.prompt[0].seed);
  EXPECT_NE(last.prompt[1].seed, first.prompt[1].seed);
  EXPECT_EQ(last.prompt[1].tokens, 88U);
  EXPECT_EQ(last.output_tokens, 5U);
}

TEST(Mooncake, NamesTheLineThatIsWrong) {
  const auto message = [](std::string_view text) {
    const auto made = read_mooncake(text, "file", kAll);
    return made ? std::string("it worked") : made.error().message;
  };
  const std::string good = R"({"timestamp":0,"input_length":1,"output_length":1})";
  EXPECT_THAT(message(""), HasSubstr("no request"));
  EXPECT_THAT(message(good + "\nnonsense"), HasSubstr("file:2: not a JSON object"));
  EXPECT_THAT(message(R"({"timestamp":0,"input_length":-1,"output_length":1})"),
              HasSubstr("needs"));
  EXPECT_THAT(message(R"({"timestamp":0,"input_length":1e99,"output_length":1})"),
              HasSubstr("needs"));
  EXPECT_THAT(message(R"({"timestamp":-5,"input_length":1,"output_length":1})"), HasSubstr("off"));
}

TEST(CsvTrace, ReadsAzureAndPlainSeconds) {
  const auto azure = read_csv_trace(
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 23:59:59.5000000,374,44\r\n"
      "2023-11-17 00:00:01.7500000,396,109\r\n",
      "t", kAll);
  ASSERT_TRUE(azure) << azure.error().message;
  ASSERT_EQ(azure->conversations.size(), 2U);
  EXPECT_EQ(*azure->conversations[0].turns[0].at, 0s);
  EXPECT_NEAR(to_seconds(*azure->conversations[1].turns[0].at), 2.25, 1e-6);
  EXPECT_EQ(azure->conversations[1].turns[0].prompt[0].tokens, 396U);
  EXPECT_EQ(azure->conversations[1].turns[0].output_tokens, 109U);
  const auto plain = read_csv_trace(
      "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,4808,10\n0.052,3180,8\n", "t", 1);
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->conversations.size(), 1U) << "the first so many";
}

TEST(CsvTrace, ReadsLengthsWithoutTimes) {
  const auto made = read_csv_trace(
      "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n3772,54,3826,69.9\n"
      "2015,156,2171,12.9\n",
      "t", kAll);
  ASSERT_TRUE(made) << made.error().message;
  ASSERT_EQ(made->conversations.size(), 2U);
  EXPECT_FALSE(made->conversations[0].turns[0].at);
  EXPECT_EQ(made->conversations[0].turns[0].prompt[0].tokens, 3772U);
  EXPECT_EQ(made->conversations[1].turns[0].output_tokens, 156U);
}

TEST(CsvTrace, NamesTheLineThatIsWrong) {
  const auto message = [](std::string_view text) {
    const auto made = read_csv_trace(text, "file", kAll);
    return made ? std::string("it worked") : made.error().message;
  };
  const std::string head = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
  EXPECT_THAT(message(""), HasSubstr("header"));
  EXPECT_THAT(message("a,b\n1,2\n"), HasSubstr("header"));
  EXPECT_THAT(message(head), HasSubstr("no request"));
  EXPECT_THAT(message(head + "2023-11-16 18:15:46,1"), HasSubstr("file:2: too few"));
  EXPECT_THAT(message(head + "2023-13-46 18:15:46,1,1"), HasSubstr("file:2: the time"));
  EXPECT_THAT(message(head + "5,1,-1"), HasSubstr("file:2: a number"));
  EXPECT_THAT(message(head + "0,1,1\n1e12,1,1"), HasSubstr("file:3"));
}

TEST(ServeGen, SamplesRatesAndLengths) {
  // 10/s in the first window, nothing in the second, 2/s in the third.
  const ServeGenClient busy{"busy", "0,10,1,Gamma,1,0.1\n600,0,0,,,\n1200,2,1.5,Weibull,1,0.5\n",
                            R"({"0": {"input_tokens": "{100: 0.5, 200: 0.5}",
                                      "output_tokens": "{7: 1.0}"}})"};
  const ServeGenClient poor{"poor", "0,1,1,Gamma,1,1\n", ""};
  Rng rng(1);
  const auto made = sample_servegen({poor, busy}, 0s, 1800s, rng);
  ASSERT_TRUE(made) << made.error().message;
  std::size_t first = 0, second = 0, third = 0, hundreds = 0;
  Duration before{};
  for (const auto& conversation : made->conversations) {
    const Ask& ask = conversation.turns[0];
    EXPECT_GE(*ask.at, before);
    before = *ask.at;
    ++(*ask.at < 600s ? first : *ask.at < 1200s ? second : third);
    hundreds += ask.prompt[0].tokens == 100 ? 1 : 0;
    EXPECT_TRUE(ask.prompt[0].tokens == 100 || ask.prompt[0].tokens == 200);
    EXPECT_EQ(ask.output_tokens, 7U);
  }
  EXPECT_NEAR(static_cast<double>(first), 6600, 400);
  EXPECT_EQ(second, 0U);
  EXPECT_NEAR(static_cast<double>(third), 1200, 175);
  const auto total = static_cast<double>(made->conversations.size());
  EXPECT_NEAR(static_cast<double>(hundreds) / total, 0.5, 0.03);
  EXPECT_THAT(made->remark, HasSubstr("lengths of"));
}

TEST(ServeGen, RefusesWhatItCannotSample) {
  const auto message = [](std::string trace, std::string lengths) {
    Rng rng(1);
    const auto made = sample_servegen({{"c", std::move(trace), std::move(lengths)}}, 0s, 600s, rng);
    return made ? std::string("it worked") : made.error().message;
  };
  const std::string lengths = R"({"0": {"input_tokens": "{1: 1.0}", "output_tokens": "{1: 1.0}"}})";
  const std::string idle = R"({"0": {"input_tokens": "{}", "output_tokens": "{}"}})";
  EXPECT_EQ(message("0,1,1,Gamma,1,1\n", lengths), "it worked");
  EXPECT_THAT(message("0,1,1,Gamma,1,1\n", ""), HasSubstr("no client"));
  EXPECT_THAT(message("0,1,1,Gamma,1,1\n", idle), HasSubstr("no client"));
  EXPECT_THAT(message("0,1,1,Gamma,1,1\n", "[]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(message("0,1,1,Gamma,1,1\n", R"({"0": {"input_tokens": "{1: x}"}})"),
              HasSubstr("cannot be read"));
  EXPECT_THAT(message("0,1\n", lengths), HasSubstr("c:1"));
  EXPECT_THAT(message("0,1,1,Gamma,0,1\n", lengths), HasSubstr("positive"));
  EXPECT_THAT(message("9000,1,1,Gamma,1,1\n", lengths), HasSubstr("no request"));
}

TEST(ParseLengths, TakesANumberOrARange) {
  EXPECT_EQ(parse_lengths("128")->high, 128U);
  EXPECT_EQ(parse_lengths("16:512")->low, 16U);
  for (const char* bad : {"", "0", "-1", "x", "5:", ":5", "9:3", "1:2:3", "99999999999"})
    EXPECT_FALSE(parse_lengths(bad)) << bad;
}

}  // namespace
}  // namespace pd::load
