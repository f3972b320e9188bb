#include "base/printable.h"

#include <gtest/gtest.h>

namespace pd {
namespace {

TEST(Printable, HasNothingThatATerminalObeys) {
  EXPECT_EQ(printable("plain é 😀 \\"), "plain é 😀 \\");
  EXPECT_EQ(printable("\x1b[31mred\x1b]0;title\x07"), "\\x1b[31mred\\x1b]0;title\\x07");
  EXPECT_EQ(printable(std::string_view("a\0b\x7f", 4)), "a\\x00b\\x7f");
  EXPECT_EQ(printable("a\n\tb\r"), "a\\n\\x09b\\x0d");
}

TEST(Printable, KnowsTheControlCharactersOfTwoBytes) {
  EXPECT_EQ(printable("\u009b2J"), "\\u009b2J");
  EXPECT_EQ(printable("\u00a0\u0180"), "\u00a0\u0180");
}

TEST(Printable, ShowsBytesThatAreNoText) {
  EXPECT_EQ(printable("\x9b\xff"), "\\x9b\\xff");
  EXPECT_EQ(printable("\xc2\x1b["), "\\xc2\\x1b[");
  EXPECT_EQ(printable("a\xe2\x82"), "a\\xe2\\x82");
}

TEST(Printable, KeepsWhatItIsTold) { EXPECT_EQ(printable("a\n\tb\r", "\n\t"), "a\n\tb\\x0d"); }

}  // namespace
}  // namespace pd
