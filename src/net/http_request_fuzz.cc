// Requests out of arbitrary bytes: whatever the pieces, the parser says the same; what it lets
// through keeps the promises that handlers rely on.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "net/http_grammar.h"
#include "net/http_parser.h"

namespace pd::net {
namespace {

constexpr int kHeadersMax = 8;
constexpr std::int64_t kHeadBytesMax = 600;
constexpr std::int64_t kBodyBytesMax = 200;

struct Outcome {
  std::vector<HttpRequest> requests;
  int status = 0;
  std::string message;
};

Outcome parse(std::string_view bytes, std::size_t piece_bytes) {
  HttpLimits limits;
  limits.header_bytes_max = Bytes(kHeadBytesMax);
  limits.headers_max = kHeadersMax;
  limits.body_bytes_max = Bytes(kBodyBytesMax);
  RequestParser parser(limits);
  Outcome out;
  while (!bytes.empty()) {
    std::string_view piece = bytes.substr(0, piece_bytes);
    bytes.remove_prefix(piece.size());
    while (!piece.empty()) {
      const std::size_t taken = parser.feed(piece);
      CHECK(taken <= piece.size());
      piece.remove_prefix(taken);
      if (parser.state() == RequestParser::State::kComplete) out.requests.push_back(parser.take());
      if (parser.state() == RequestParser::State::kFailed) {
        out.status = parser.problem().status;
        out.message = parser.problem().message;
        return out;
      }
    }
  }
  return out;
}

void check_promises(const HttpRequest& request) {
  CHECK(is_token(request.method));
  CHECK(is_target(request.target));
  CHECK(request.target.front() == '/' || request.target == "*");
  CHECK(request.headers.size() <= static_cast<std::size_t>(kHeadersMax));
  CHECK(request.body.size() <= static_cast<std::size_t>(kBodyBytesMax));
  int hosts = 0;
  for (const auto& [name, value] : request.headers) {
    CHECK(is_token(name));
    CHECK(name == to_lower(name));
    CHECK(is_field_value(value));
    CHECK(trim_whitespace(value) == value);
    hosts += name == "host";
  }
  CHECK(hosts <= 1);
}

bool same(const HttpRequest& a, const HttpRequest& b) {
  return a.method == b.method && a.target == b.target && a.headers == b.headers && a.body == b.body;
}

}  // namespace
}  // namespace pd::net

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pd::net;
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Outcome whole = parse(bytes, size);
  const Outcome pieces = parse(bytes, std::size_t{1} + data[0] % 16);
  CHECK(whole.requests.size() == pieces.requests.size());
  CHECK(whole.status == pieces.status);
  CHECK(whole.message == pieces.message);
  for (std::size_t i = 0; i < whole.requests.size(); ++i) {
    CHECK(same(whole.requests[i], pieces.requests[i]));
    check_promises(whole.requests[i]);
  }
  return 0;
}
