#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "net/http_parser.h"

namespace pd::net {
namespace {

TEST(RequestParser, ABodyTakesLittleMoreMemoryThanHasArrived) {
  constexpr std::size_t kBytes = 9'000'000;
  const std::string piece(16'000, 'x');
  for (const bool chunked : {false, true}) {
    const HttpLimits limits;
    RequestParser parser(limits);
    parser.feed(std::string("POST / HTTP/1.1\r\n") + "Host: a\r\n" +
                (chunked ? "Transfer-Encoding: chunked\r\n\r\n"
                         : "Content-Length: " + std::to_string(kBytes) + "\r\n\r\n"));
    EXPECT_EQ(parser.body_memory(), 0u) << "a length is a claim";
    for (std::size_t had = 0; had < kBytes;) {
      const std::string_view more = std::string_view(piece).substr(0, kBytes - had);
      had += more.size();
      parser.feed(chunked ? fmt::format("{:x}\r\n{}\r\n", more.size(), more) : std::string(more));
      const std::size_t spare = std::max<std::size_t>(had / 4, 64 * 1024);
      ASSERT_LE(parser.body_memory(), had + spare) << had;
      ASSERT_LE(parser.body_memory(), chunked ? had + spare : kBytes) << had;
    }
    if (chunked) parser.feed("0\r\n\r\n");
    ASSERT_EQ(parser.state(), RequestParser::State::kComplete) << parser.problem().message;
    EXPECT_EQ(parser.take().body, std::string(kBytes, 'x'));
  }
}

}  // namespace
}  // namespace pd::net
