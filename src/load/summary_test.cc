#include "load/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "load/comparison.h"
#include "load/report_page.h"

namespace pd::load {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

Record completed(double due_s, double ttft_ms, double e2e_ms, std::uint32_t tokens) {
  Record r;
  r.due_s = due_s;
  r.sent_s = due_s + 0.001;
  r.outcome = Record::Outcome::kCompleted;
  r.status = 200;
  r.ttft_ms = ttft_ms;
  r.e2e_ms = e2e_ms;
  r.prompt_tokens = 10;
  r.cached_tokens = 5;
  r.output_tokens = tokens;
  r.itl_ms = {1.5F, 2.5F};
  return r;
}
Record ended(double due_s, Record::Outcome outcome, std::string error) {
  Record r;
  r.due_s = r.sent_s = due_s;
  r.outcome = outcome;
  r.error = std::move(error);
  r.status = outcome == Record::Outcome::kRejected ? 429 : 0;
  r.e2e_ms = 10;
  return r;
}

std::vector<Record> sample() {
  return {completed(0.5, 100, 1100, 11),
          completed(1.2, 300, 800, 6),
          completed(1.9, 100, 100, 1),
          ended(2.1, Record::Outcome::kRejected, "HTTP 429: busy"),
          ended(2.2, Record::Outcome::kFailed, "reset </script>"),
          ended(2.3, Record::Outcome::kTimedOut, "no answer"),
          ended(2.4, Record::Outcome::kUnfinished, "the load was stopped")};
}

TEST(Summary, CountsEachOnceAndGoodputOfTheOffered) {
  const Summary s = summarize(sample(), *parse_slo("ttft=200ms,tpot=100ms"), {});
  EXPECT_EQ(s.offered, 7U);
  EXPECT_EQ(s.completed, 3U);
  EXPECT_EQ(s.rejected, 1U);
  EXPECT_EQ(s.failed, 2U);
  EXPECT_EQ(s.timed_out, 1U);
  EXPECT_EQ(s.unfinished, 1U);
  EXPECT_EQ(s.offered, s.completed + s.rejected + s.failed + s.unfinished);
  EXPECT_EQ(s.within_slo, 2U) << "TPOT of the first is exactly the limit; the third has none";
  EXPECT_EQ(s.output_tokens, 18U);
  EXPECT_EQ(s.prompt_tokens, 30U);
  EXPECT_EQ(s.cached_tokens, 15U);
  EXPECT_EQ(s.ttft.p50, 100);
  EXPECT_EQ(s.ttft.most, 300);
  EXPECT_EQ(s.tpot.count, 2U);
  EXPECT_EQ(s.itl.count, 6U);
  EXPECT_NEAR(s.late.most, 1, 1e-9);
  EXPECT_EQ(s.accepted, 3U);
  EXPECT_EQ(s.first_error, "HTTP 429: busy");
}

// A server that stalls, and a person who stops the load because of it.
TEST(Summary, AStallThatIsCutShortIsNoSuccess) {
  std::vector<Record> records;
  for (int i = 0; i < 40; ++i) records.push_back(completed(i * 0.1, 100, 300, 4));
  for (int i = 0; i < 60; ++i) {  // stopped after 10 s
    records.push_back(ended(4 + i * 0.1, Record::Outcome::kUnfinished, "the load was stopped"));
    records.back().ttft_ms = records.back().e2e_ms = 6000 - i * 100;
  }
  const Summary s = summarize(records, *parse_slo("ttft=500ms"), {}, 10);
  EXPECT_EQ(s.offered, 100U);
  EXPECT_EQ(s.unfinished, 60U);
  EXPECT_EQ(s.undecided, 5U) << "due within the last 500 ms";
  EXPECT_NEAR(*s.goodput_share(), 40 / 95.0, 1e-9);
  EXPECT_THAT(to_table(s), HasSubstr("unfinished    60 of them were under way when the load was "
                                     "stopped: 55 had passed a limit and count as missed, 5 count "
                                     "neither way\n"));
  EXPECT_THAT(to_table(s), HasSubstr("42.1 % of the 95 offered whose outcome is known are within"));
  EXPECT_THAT(to_table(s), Not(HasSubstr("rejected or failed have none")));
  EXPECT_THAT(to_json(s), HasSubstr("\"within_slo_share\":0.42"));
  EXPECT_THAT(to_text(compare(s, s), "a", "b"),
              HasSubstr("within limits, %                    42.1"));
  EXPECT_THAT(to_text(compare(s, s), "a", "b"),
              HasSubstr("unfinished, %                       60."));

  EXPECT_EQ(summarize(records, *parse_slo("e2e=2s"), {}).undecided, 20U);
  EXPECT_EQ(summarize(records, *parse_slo("tpot=1ms"), {}).undecided, 60U);
  const Summary free = summarize(records, {}, {});
  EXPECT_NEAR(free.length_s, 10, 1e-9) << "until it was stopped";
  EXPECT_THAT(to_table(free), HasSubstr("when the load was stopped\n"));
  records.erase(records.begin(), records.begin() + 95);
  EXPECT_FALSE(summarize(records, *parse_slo("ttft=500ms"), {}).goodput_share());
}

// Ten requests a second for ten seconds; the answers take four.
TEST(Summary, RatesAreOfTheTimeInWhichTheyHappened) {
  std::vector<Record> records;
  for (int i = 0; i < 100; ++i) {
    records.push_back(completed(i * 0.1, 100, 4000, 20));
    records.back().index = static_cast<std::uint64_t>(i);
  }
  const Summary s = summarize(records, *parse_slo("ttft=200ms"), {}, 10);
  EXPECT_NEAR(s.offered_rate(), 10, 1e-9) << "not thinned by the wait for the last answer";
  EXPECT_NEAR(s.length_s, 13.9, 1e-9);
  EXPECT_NEAR(s.rate(s.completed), 100 / 13.9, 1e-9);
  EXPECT_THAT(to_table(s), HasSubstr("100 offered over 10.0 s of sending (10.00/s)"));
  EXPECT_THAT(to_table(s), HasSubstr("over the 13.9 s to the last answer"));

  records.push_back(ended(9.9, Record::Outcome::kTimedOut, "no answer"));
  records.back().e2e_ms = 600'000;
  EXPECT_NEAR(summarize(records, {}, {}, 10).length_s, 13.9, 1e-9) << "nothing came after that";
  EXPECT_NEAR(summarize(records, {}, {}).sending_s, 9.9, 1e-9);
  EXPECT_NEAR(summarize({ended(3, Record::Outcome::kFailed, "")}, {}, {}, 60).length_s, 60, 1e-9)
      << "a server that answers nothing was measured all the same";
  const Summary at_once = summarize({completed(0, 1, 2, 3)}, {}, {});
  EXPECT_THAT(to_table(at_once), HasSubstr("1 offered at once:"));
}

TEST(Summary, ALoadThatDoesNotFitSaysWhatTheServerSaid) {
  std::vector<Record> records;
  for (std::uint64_t i = 0; i < 40; ++i) {
    records.push_back(
        ended(1, Record::Outcome::kFailed, "HTTP 400: too long by " + std::to_string(i)));
    records.back().status = 400;
    records.back().index = 40 - i;
  }
  const Summary s = summarize(records, *parse_slo("ttft=200ms"), {});
  EXPECT_EQ(s.refused, 40U);
  EXPECT_EQ(s.first_error, "HTTP 400: too long by 39");
  EXPECT_THAT(to_table(s), HasSubstr("refused       40 of 40 requests"));
  EXPECT_THAT(to_table(s), HasSubstr("first:\n              HTTP 400: too long by 39\n"));
  EXPECT_THAT(to_table(s), HasSubstr("30 x  other messages"));
  EXPECT_THAT(to_table(s), HasSubstr("the 40 rejected or failed have none and count as outside"));
  EXPECT_THAT(to_json(s), HasSubstr("\"first_error\":\"HTTP 400: too long by 39\""));
  for (Record& record : records) record.status = 429;
  EXPECT_FALSE(summarize(records, {}, {}).mostly_refused()) << "busy is not unfit";
}

TEST(Summary, TheTimelineHoldsEveryRequestAndToken) {
  const Summary s = summarize(sample(), {}, {});
  Second all;
  for (const Second& second : s.seconds) {
    all.offered += second.offered;
    all.completed += second.completed;
    all.rejected += second.rejected;
    all.failed += second.failed;
    all.accepted += second.accepted;
    all.output_tokens += second.output_tokens;
  }
  EXPECT_EQ(all.offered, s.offered);
  EXPECT_EQ(all.completed, s.completed);
  EXPECT_EQ(all.rejected, s.rejected);
  EXPECT_EQ(all.failed, s.failed);
  EXPECT_EQ(all.accepted, s.accepted);
  EXPECT_NEAR(all.output_tokens, 18, 1e-6);
  // The first: tokens from 0.6 to 1.6 s, 0.4 of them in the first second.
  EXPECT_NEAR(s.seconds[0].output_tokens, 4.4, 1e-6);
}

TEST(Summary, PercentilesAreOfAllValues) {
  std::vector<double> values;
  for (int i = 1000; i >= 1; --i) values.push_back(i);
  const Distribution d = distribution_of(values);
  EXPECT_EQ(d.p50, 500);
  EXPECT_EQ(d.p99, 990);
  EXPECT_EQ(d.p999, 999);
  EXPECT_EQ(d.most, 1000);
  EXPECT_EQ(d.quantiles.size(), 201U);
  EXPECT_EQ(d.quantiles.front(), 1);
  EXPECT_EQ(d.quantiles.back(), 1000);
  EXPECT_EQ(distribution_of({}).count, 0U);
}

TEST(Summary, SurvivesItsJson) {
  const Summary s = summarize(sample(), *parse_slo("ttft=200ms,e2e=2s"), {{"dataset", "random"}});
  const auto back = read_summary(to_json(s), "file");
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(to_json(*back), to_json(s));
  EXPECT_EQ(to_table(*back), to_table(s));
  EXPECT_FALSE(read_summary("{}", "file"));
  EXPECT_THAT(read_summary(R"({"format":"pdserve bench serve 1"})", "old.json").error().message,
              HasSubstr("old.json is of another version of bench serve: measure again"));
  EXPECT_FALSE(read_summary("nonsense", "file"));
  EXPECT_FALSE(read_summary(R"({"setting":[]})", "file"));
}

TEST(Summary, ATerminalObeysNoWordOfTheServer) {
  Record bad = ended(1, Record::Outcome::kFailed, "HTTP 400: \x1b]0;title\x07");
  bad.status = 400;
  const Summary s = summarize({bad}, {}, {{"model", "m\x1b[2J"}});
  const std::string text = to_table(s) + to_text(compare(s, summarize({}, {}, {})), "a", "b");
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, HasSubstr("first:\n              HTTP 400: \\x1b]0;title\\x07\n"));
  EXPECT_THAT(text, HasSubstr("1 x  HTTP 400: \\x1b]0;title\\x07\n"));
  EXPECT_THAT(text, HasSubstr("model: A m\\x1b[2J, B -"));
}

TEST(Summary, SaysWhereTheServerDoesNotCount) {
  std::vector<Record> records = sample();
  EXPECT_THAT(to_table(summarize(records, {}, {})), Not(HasSubstr("no usage")));
  records[1].has_usage = false;
  records[1].prompt_tokens = records[1].cached_tokens = 0;
  const Summary s = summarize(records, {}, {});
  EXPECT_EQ(s.without_usage, 1U);
  EXPECT_THAT(to_table(s), HasSubstr(" - prompt tokens/s"));
  EXPECT_THAT(to_table(s), HasSubstr("no usage      1 of the 3 completed do not say"));
  EXPECT_THAT(to_table(s), HasSubstr("prefix cache  - of prompt"));
  const std::string both = to_text(compare(s, s), "a", "b");
  EXPECT_THAT(both, ContainsRegex("output tokens/s +[0-9.]+ +[0-9.]+ +-\n"));
  EXPECT_THAT(both, ContainsRegex("prompt tokens cached, % +- +- +-\n"));
  EXPECT_THAT(both, HasSubstr("(A: 1 answers, B: 1)"));
  EXPECT_THAT(to_json(s), HasSubstr("\"without_usage\":1"));
}

TEST(Summary, OfNothingIsNothing) {
  const Summary s = summarize({}, {}, {});
  EXPECT_THAT(to_table(s), HasSubstr("0 offered"));
  EXPECT_TRUE(read_summary(to_json(s), "file"));
}

TEST(Record, SurvivesItsLine) {
  for (const Record& record : sample()) {
    const std::string line = to_json_line(record);
    EXPECT_EQ(std::ranges::count(line, '\n'), 1);
    const auto back = read_record(line);
    ASSERT_TRUE(back);
    EXPECT_EQ(to_json_line(*back), line);
  }
  EXPECT_FALSE(read_record("{}"));
}

TEST(ReportPage, HoldsTheDataAndNothingThatEndsItsScript) {
  const Summary s = summarize(sample(), *parse_slo("ttft=200ms"), {{"dataset", "random"}});
  const std::string page = report_page({{"one", s}, {"two", s}});
  EXPECT_THAT(page, HasSubstr("\"name\":\"two\""));
  EXPECT_THAT(page, Not(HasSubstr("reset </script>")));
  EXPECT_THAT(page, HasSubstr("reset \\u003c/script>"));
  EXPECT_THAT(page, Not(HasSubstr("src="))) << "it needs nothing else";
}

TEST(ReportPage, ComparesTwo) {
  const Summary a = summarize(sample(), *parse_slo("ttft=200ms"), {{"server", "one"}});
  const Summary b = summarize(sample(), *parse_slo("ttft=300ms"), {{"server", "two"}});
  const std::string page = report_page({{"a", a}, {"b", b}});
  EXPECT_THAT(page, HasSubstr(R"(["server","one","two"])"));
  EXPECT_THAT(page, HasSubstr(R"(["completed, %",42.857142857142854,42.857142857142854,1.0])"));
  EXPECT_THAT(page, HasSubstr("Goodput is not compared"));
  EXPECT_THAT(report_page({{"a", a}}), HasSubstr(R"("comparison":null)"));
}

TEST(ReportPage, OfADayIsSmallAndHoldsEveryRequest) {
  std::vector<Record> records;
  for (int i = 0; i < 100'000; ++i) records.push_back(completed(i, 100, 300, 2));
  const Summary s = summarize(records, {}, {});
  ASSERT_EQ(s.seconds.size(), 100'000U);
  const std::string page = report_page({{"long", s}});
  EXPECT_LT(page.size(), 200'000U);
  EXPECT_THAT(page, HasSubstr(R"("row_s":50)"));
  EXPECT_THAT(page, HasSubstr("[50,50,50,0,0,50,"));
}

TEST(ParseSlo, TakesSomeOfThree) {
  EXPECT_EQ(parse_slo("ttft=500ms")->ttft_ms, 500);
  EXPECT_EQ(parse_slo("tpot=50ms,e2e=10s")->e2e_ms, 10'000);
  EXPECT_TRUE(parse_slo("")->empty());
  for (const char* bad : {"ttft", "ttft=", "ttft=5", "x=1s", "ttft=1s,ttft=2s", "=1s"})
    EXPECT_FALSE(parse_slo(bad)) << bad;
}

}  // namespace
}  // namespace pd::load
