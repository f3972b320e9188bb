// Heads and chunks as bytes: what both sides write. Pure. Internal to net.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/http_types.h"

namespace pd::net {

struct ResponseHead {
  int status = 200;
  std::string_view content_type{};  // empty: no such header
  std::string_view upgrade{};       // of a 101: the protocol that it changes to
  const std::vector<Header>* extra = nullptr;
  std::optional<std::uint64_t> content_length{};
  bool chunked = false;
  bool close = false;       // announce that the connection ends
  bool keep_alive = false;  // announce that it stays, which HTTP/1.0 clients need to hear
  std::string_view date{};
};
// Fields of `extra` that delimit the message are left out, as are names that are no token; control
// characters in values become spaces: no value can end the head early.
void append_response_head(std::string& out, const ResponseHead& head);

void append_chunk(std::string& out, std::string_view bytes);  // nothing for no bytes
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";
inline constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

// {"error": {...}} as the OpenAI API words errors.
std::string error_body(int status, std::string_view message);

// The Date header's text (RFC 9110, 5.6.7), made once per second.
class HttpDate {
 public:
  std::string_view at(std::time_t now);

 private:
  std::time_t made_for_ = -1;
  std::string text_;
};

}  // namespace pd::net
