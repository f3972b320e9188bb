// Responses out of arbitrary bytes: the same events whatever the pieces, and a chunked body that
// the server's own writer makes comes back unchanged.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "net/http_message.h"
#include "net/http_parser.h"

namespace pd::net {
namespace {

struct Outcome {
  int status = 0;
  std::vector<Header> headers;
  std::string body;
  std::string problem;
  bool complete = false;
  bool keep_alive = false;
  bool operator==(const Outcome&) const = default;
};

Outcome parse(std::string_view bytes, std::size_t piece_bytes, bool head_request) {
  using Event = ResponseParser::Event;
  HttpLimits limits;
  limits.header_bytes_max = Bytes(600);
  limits.headers_max = 8;
  ResponseParser parser(limits, head_request);
  Outcome out;
  Event event = Event::kMore;
  while (!bytes.empty() && event == Event::kMore) {
    std::string_view piece = bytes.substr(0, piece_bytes);
    bytes.remove_prefix(piece.size());
    do {
      event = parser.next(piece);
      if (event == Event::kHead) {
        out.status = parser.status();
        out.headers = parser.headers();
      }
      if (event == Event::kData) out.body += parser.data();
      CHECK(event != Event::kMore || piece.empty());
    } while (event == Event::kHead || event == Event::kData);
  }
  if (event == Event::kMore) event = parser.finish();
  out.complete = event == Event::kEnd;
  out.keep_alive = parser.keep_alive();
  if (event == Event::kFailed) out.problem = parser.problem().message;
  return out;
}

void check_round_trip(std::string_view body, std::size_t piece_bytes) {
  std::string wire;
  append_response_head(wire, {.status = 200, .content_type = body, .chunked = true});
  for (std::string_view left = body; !left.empty();) {
    const std::string_view piece = left.substr(0, piece_bytes);
    append_chunk(wire, piece);
    left.remove_prefix(piece.size());
  }
  wire += kLastChunk;
  // A content type of arbitrary bytes may be over the head's limit, but never breaks the head.
  if (body.size() > 400) return;
  const Outcome back = parse(wire, wire.size(), /*head_request=*/false);
  CHECK(back.complete);
  CHECK(back.body == body);
  CHECK(back.keep_alive);
}

}  // namespace
}  // namespace pd::net

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pd::net;
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const bool head_request = data[0] >= 0x80;
  const std::size_t piece_bytes = std::size_t{1} + data[0] % 16;
  const Outcome whole = parse(bytes, size, head_request);
  CHECK(whole == parse(bytes, piece_bytes, head_request));
  CHECK(!whole.keep_alive || whole.status >= 200);
  check_round_trip(bytes, piece_bytes);
  return 0;
}
