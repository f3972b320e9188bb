#include "load/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pd::load {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

Summary of_one(double ttft_ms, const char* slo, std::map<std::string, std::string> setting) {
  Record r;
  r.outcome = Record::Outcome::kCompleted;
  r.ttft_ms = ttft_ms;
  r.e2e_ms = 1000;
  r.output_tokens = 11;
  return summarize({r}, *parse_slo(slo), std::move(setting));
}

std::string text_of_both(const Summary& a, const Summary& b) {
  return to_text(compare(a, b), "a.json", "b.json");
}

TEST(Comparison, IsOfRatios) {
  const std::string text =
      text_of_both(of_one(100, "", {{"server", "a"}}), of_one(250, "", {{"server", "b"}}));
  EXPECT_THAT(text, HasSubstr("server: A a, B b"));
  EXPECT_THAT(text, ContainsRegex("TTFT p50, ms +100.000 +250.000 +2.500"));
  EXPECT_THAT(text, Not(HasSubstr("goodput")));
}

TEST(Comparison, ListsWhatOnlyOneOfThemHas) {
  const std::string text = text_of_both(of_one(1, "", {{"same", "1"}, {"of a", "x"}}),
                                        of_one(1, "", {{"same", "1"}, {"of b", "y"}}));
  EXPECT_THAT(text, HasSubstr("of a: A x, B -"));
  EXPECT_THAT(text, HasSubstr("of b: A -, B y"));
  EXPECT_THAT(text, Not(HasSubstr("same")));
}

TEST(Comparison, EqualLimitsAreComparedAndOthersAreNot) {
  const std::string equal = text_of_both(of_one(1, "ttft=5ms", {}), of_one(1, "ttft=5ms", {}));
  EXPECT_THAT(equal, ContainsRegex("goodput, requests/s +1.000 +1.000 +1.000"));
  EXPECT_THAT(equal, Not(HasSubstr("--slo")));
  for (const char* other : {"ttft=2s", "ttft=5ms,e2e=5s", ""}) {
    const std::string text = text_of_both(of_one(1, "ttft=5ms", {}), of_one(1, other, {}));
    EXPECT_THAT(text, HasSubstr("limits (--slo): A TTFT <= 5 ms, B ")) << other;
    const bool limits = *other != 0;
    EXPECT_THAT(text, ContainsRegex(limits ? "goodput, requests/s +1.000 +1.000 +-\n"
                                           : "goodput, requests/s +1.000 +- +-\n"))
        << other;
    EXPECT_THAT(text, ContainsRegex(limits ? "within limits, % +100.000 +100.000 +-\n"
                                           : "within limits, % +100.000 +- +-\n"))
        << other;
    EXPECT_THAT(text, HasSubstr("Goodput is not compared: the limits differ")) << other;
  }
}

TEST(Comparison, TimesOfNobodyAreNotCompared) {
  const std::string text = text_of_both(of_one(100, "", {}), summarize({}, {}, {}));
  EXPECT_THAT(text, ContainsRegex("TTFT p50, ms +100.000 +- +-\n"));
}

}  // namespace
}  // namespace pd::load
