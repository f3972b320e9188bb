#include "protocol/sse_reader.h"

#include <gtest/gtest.h>

#include <vector>

namespace pd::protocol {
namespace {

std::vector<std::string> events(std::string_view stream, std::size_t cut) {
  SseReader reader;
  std::vector<std::string> out;
  for (std::size_t at = 0; at < stream.size(); at += cut) {
    EXPECT_TRUE(reader.feed(stream.substr(at, cut),
                            [&](std::string_view data) { out.emplace_back(data); }));
  }
  return out;
}

TEST(SseReader, ReadsEventsInAnyCut) {
  const std::string_view stream =
      "data: one\n\n: a comment\n\ndata:two\r\n\r\nevent: x\ndata: three\ndata:  four\nid: 7\n\n"
      "database: no\n\ndata\n\n\n\ndata: [DONE]\n\ndata: never ended\n";
  const std::vector<std::string> wanted{"one", "two", "three\n four", "", "[DONE]"};
  for (std::size_t cut = 1; cut <= stream.size(); ++cut)
    EXPECT_EQ(events(stream, cut), wanted) << cut;
}

// WHATWG HTML, 9.2.5: a line ends with CR LF, LF or CR.
TEST(SseReader, TakesEveryEndOfALine) {
  const std::vector<std::string> wanted{"one", "two\nthree", "four"};
  for (const std::string_view end : {"\n", "\r", "\r\n"}) {
    std::string stream;
    for (const std::string_view line :
         {"data: one", "", ": comment", "", "data: two", "data: three", "", "data: four", "", ""})
      stream.append(line).append(end);
    for (std::size_t cut = 1; cut <= stream.size(); ++cut)
      EXPECT_EQ(events(stream, cut), wanted) << cut;
  }
  const std::string_view mixed =
      "data: a\r\r\ndata: b\r\n\rdata: c\n\rdata: d\r\n\n\ndata: e\n\r\n";
  for (std::size_t cut = 1; cut <= mixed.size(); ++cut)
    EXPECT_EQ(events(mixed, cut), (std::vector<std::string>{"a", "b", "c", "d", "e"})) << cut;
}

TEST(SseReader, RefusesAnEventWithoutBound) {
  SseReader reader(100);
  const auto ignore = [](std::string_view) {};
  EXPECT_TRUE(reader.feed("data: short\n\n", ignore));
  bool fine = true;
  for (int i = 0; i < 20 && fine; ++i) fine = reader.feed("0123456789", ignore);
  EXPECT_FALSE(fine);
  EXPECT_FALSE(reader.feed("data: more\n\n", ignore));
  SseReader many(100);
  fine = true;
  for (int i = 0; i < 20 && fine; ++i) fine = many.feed("data: 0123456789\n", ignore);
  EXPECT_FALSE(fine);
}

}  // namespace
}  // namespace pd::protocol
