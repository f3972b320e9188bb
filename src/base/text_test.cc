#include "base/text.h"

#include <gtest/gtest.h>

#include "base/digest.h"

namespace pd {
namespace {

TEST(Text, HexRoundTrips) {
  EXPECT_EQ(to_hex(0xABCu), "0000000000000abc");
  EXPECT_EQ(from_hex("ABc"), 0xABCu);
  EXPECT_EQ(from_hex(""), std::nullopt);
  EXPECT_EQ(from_hex("g"), std::nullopt);
  const RequestId id{1, 2};
  EXPECT_EQ(request_id_from(to_string(id)), id);
}

TEST(Text, ValidUtf8PrefixFollowsRfc3629) {
  EXPECT_TRUE(is_valid_utf8("aé€😀"));
  EXPECT_EQ(valid_utf8_prefix("a\xC0\x80"), 1u);         // overlong
  EXPECT_EQ(valid_utf8_prefix("\xED\xA0\x80"), 0u);      // surrogate
  EXPECT_EQ(valid_utf8_prefix("\xF4\x90\x80\x80"), 0u);  // over U+10FFFF
  EXPECT_EQ(valid_utf8_prefix("ab\xE2\x82"), 2u);        // cut short
}

TEST(Text, JsonEscapingKeepsUtf8AndEscapesControls) {
  std::string out;
  append_json_escaped(out, "a\"b\\\n\x01é\xFF");
  EXPECT_EQ(out, "a\\\"b\\\\\\n\\u0001é\xEF\xBF\xBD");
}

TEST(Text, AppendUtf8ReplacesSurrogates) {
  std::string out;
  append_utf8(out, U'😀');
  append_utf8(out, 0xD800);
  EXPECT_EQ(out, "😀\xEF\xBF\xBD");
}

TEST(Digest, PiecesEqualTheWhole) {
  const std::string data(1000, 'x');
  const auto bytes = std::as_bytes(std::span(data));
  Digest64 pieces;
  pieces.update(bytes.first(7));
  pieces.update(bytes.subspan(7));
  EXPECT_EQ(pieces.value(), digest64(bytes));
  EXPECT_NE(digest64(bytes), digest64(bytes.first(999)));
}

}  // namespace
}  // namespace pd
