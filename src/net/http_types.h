// Values of HTTP/1.1 that both sides use.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"
#include "base/units.h"

namespace pd::net {

using Header = std::pair<std::string, std::string>;  // name in lower case

struct HttpRequest {
  std::string method;
  std::string target;  // path and query as received; an absolute-form target is reduced to them
  std::vector<Header> headers;
  std::string body;
  std::string peer;  // "127.0.0.1:4711"
  Time received{};   // first byte of the request seen
  std::string_view header(std::string_view lower_case_name) const {  // empty when absent
    for (const auto& [name, value] : headers) {
      if (name == lower_case_name) return value;
    }
    return {};
  }
  // It offers to change to this protocol, and to nothing else.
  bool asks_for(std::string_view protocol) const;
  std::string_view path() const { return std::string_view(target).substr(0, target.find('?')); }
};

struct HttpLimits {
  Bytes header_bytes_max{64 * 1024};  // request line and all fields, line ends included
  int headers_max = 100;
  Bytes body_bytes_max{10 * 1024 * 1024};
  // Of all bodies that are being received, together; a server that holds more answers with 503.
  Bytes bodies_bytes_max{256 * 1024 * 1024};
  // First byte to end of headers: slow-header attacks.
  Duration header_timeout{std::chrono::seconds(10)};
  Duration body_timeout{std::chrono::seconds(60)};
  // Between requests on a kept-alive connection; longer than HttpClientOptions::idle_timeout, so
  // that our own clients let go first.
  Duration idle_timeout{std::chrono::seconds(75)};
  // A streamed response whose reader is slow: bytes we hold for it before it is cut. A whole
  // response (HttpResponse::send) may be larger, while there is room for it in write_buffers_max.
  Bytes write_buffer_max{1024 * 1024};
  // Of all slow readers, together; above it one is cut at a sixteenth of write_buffer_max.
  Bytes write_buffers_max{256 * 1024 * 1024};
  // Bytes wait to be written and the peer has taken none for so long, or its machine does not
  // answer for so long: it is cut.
  Duration write_timeout{std::chrono::seconds(60)};
  int connections_max = 60000;  // above it a new connection is answered with 503
};

// "OK", "Not Found"; "Unknown" for a status without a registered phrase.
std::string_view reason_phrase(int status);

}  // namespace pd::net
