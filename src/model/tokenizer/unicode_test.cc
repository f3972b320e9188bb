#include "model/tokenizer/unicode.h"

#include <gtest/gtest.h>

#include "base/rng.h"
#include "base/text.h"

namespace pd::model::tokenizing {
namespace {

TEST(Unicode, CodePointsReadForwardsAndBackwardsAreTheSame) {
  const std::string text = "aé中🙂\xF4\x8F\xBF\xBF";
  std::vector<char32_t> forwards;
  for (std::size_t at = 0; at < text.size();) forwards.push_back(next_code_point(text, at));
  EXPECT_EQ(forwards, (std::vector<char32_t>{U'a', U'é', U'中', U'🙂', 0x10FFFF}));
  std::vector<char32_t> backwards;
  for (std::size_t end = text.size(); end > 0;) {
    backwards.insert(backwards.begin(), previous_code_point(text, end));
  }
  EXPECT_EQ(backwards, forwards);
}

TEST(Unicode, NormalFormsFollowTheStandardsExamples) {
  // UAX #15, figures 3 to 6.
  EXPECT_EQ(normalized("\u212B", NormalForm::kNfc), "\u00C5");
  EXPECT_EQ(normalized("\u212B", NormalForm::kNfd), "A\u030A");
  EXPECT_EQ(normalized("\u1E9B\u0323", NormalForm::kNfc), "\u1E9B\u0323");
  EXPECT_EQ(normalized("\u1E9B\u0323", NormalForm::kNfd), "\u017F\u0323\u0307");
  EXPECT_EQ(normalized("\u1E9B\u0323", NormalForm::kNfkc), "\u1E69");
  EXPECT_EQ(normalized("\u1E9B\u0323", NormalForm::kNfkd), "s\u0323\u0307");
  EXPECT_EQ(normalized("\uFB01", NormalForm::kNfc), "\uFB01");
  EXPECT_EQ(normalized("\uFB01", NormalForm::kNfkc), "fi");
  EXPECT_EQ(normalized("\u1100\u1161\u11A8", NormalForm::kNfc), "\uAC01");
  EXPECT_EQ(normalized("\uAC01", NormalForm::kNfd), "\u1100\u1161\u11A8");
}

TEST(Unicode, NormalizingKeepsWhatLiesAroundAnUnstableStretch) {
  EXPECT_EQ(normalized("plain é text", NormalForm::kNfc), "plain é text");
  EXPECT_EQ(normalized("xe\u0301y e\u0301", NormalForm::kNfc), "xéy é");
  EXPECT_EQ(normalized("\u0301 a", NormalForm::kNfc), "\u0301 a");
  EXPECT_EQ(normalized("", NormalForm::kNfkd), "");
}

TEST(Unicode, NormalizingPiecesGivesWhatTheWholeGives) {
  // Text between characters that never combine normalizes by itself, so normalizing twice, or in
  // pieces that begin with such a character, changes nothing.
  Rng rng(7);
  const std::vector<std::string> parts = {"a",      "e",      "中",     "が",     "か",
                                          "\u3099", "\u0301", "\u0323", "\uAC00", "\u11A8",
                                          "ﬁ",      "🙂",     "\u1161", " ",      "ß"};
  for (int round = 0; round < 500; ++round) {
    std::string text;
    std::string pieces;
    for (int piece = 0; piece < 4; ++piece) {
      std::string one = " ";
      for (std::uint64_t i = rng.below(8); i > 0; --i) one += parts[rng.below(parts.size())];
      text += one;
      pieces += normalized(one, NormalForm::kNfc);
    }
    const std::string whole = normalized(text, NormalForm::kNfc);
    EXPECT_EQ(whole, pieces);
    EXPECT_EQ(normalized(whole, NormalForm::kNfc), whole);
    EXPECT_EQ(normalized(normalized(text, NormalForm::kNfd), NormalForm::kNfc), whole);
  }
}

TEST(Unicode, ManyMarksOnOneLetterTakeLinearTime) {
  std::string text = "a";
  for (int i = 0; i < 500'000; ++i) text += "\u0301\u0323";  // an insertion sort takes minutes
  EXPECT_EQ(normalized(text, NormalForm::kNfd).size(), text.size());
}

std::string lossy(std::string_view bytes) {
  std::string in(bytes);
  std::string out;
  take_utf8(in, true, out);
  return out;
}

TEST(Unicode, BadBytesBecomeOneReplacementPerMaximalPart) {
  // Unicode 15, table 3-8 and its neighbours.
  EXPECT_EQ(lossy("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA");
  EXPECT_EQ(lossy("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA");
  EXPECT_EQ(lossy("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA\uFFFD\uFFFDB");
  EXPECT_EQ(lossy("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), "\uFFFD\uFFFD\uFFFD\uFFFDA");
}

TEST(Unicode, BytesOneByOneGiveWhatAllAtOnceGive) {
  Rng rng(11);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (std::uint64_t i = rng.below(12); i > 0; --i) {
      constexpr std::string_view kLikely = "a\x80\xBF\xC3\xE2\xED\xF0\xF4\x9F\x90\xFF";
      bytes.push_back(kLikely[rng.below(kLikely.size())]);
    }
    std::string held;
    std::string out;
    for (const char byte : bytes) {
      held.push_back(byte);
      take_utf8(held, false, out);
      EXPECT_LE(held.size(), 3u);
      EXPECT_TRUE(is_valid_utf8(out));
    }
    take_utf8(held, true, out);
    EXPECT_EQ(out, lossy(bytes));
  }
}

TEST(Unicode, ClassesKnowTheirEdges) {
  EXPECT_TRUE(is_white_space(0x3000));
  EXPECT_FALSE(is_white_space(0x180E));  // was one until Unicode 6.2
  EXPECT_FALSE(is_white_space(0x200B));
  EXPECT_TRUE(is_numeric(0x00BD));
  EXPECT_TRUE(is_punctuation('$'));      // ASCII symbols count
  EXPECT_FALSE(is_punctuation(0x20AC));  // the euro sign does not
  EXPECT_TRUE(is_word(0x24B6));
  EXPECT_FALSE(is_word(0x2460));
  EXPECT_EQ(lower_cased("ÀİΣß"), "ài̇σß");
}

}  // namespace
}  // namespace pd::model::tokenizing
