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
  std::string target;  // path and query as received
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
  std::string_view path() const { return std::string_view(target).substr(0, target.find('?')); }
};

struct HttpLimits {
  Bytes header_bytes_max{64 * 1024};
  int headers_max = 100;
  Bytes body_bytes_max{10 * 1024 * 1024};
  Duration header_timeout{
      std::chrono::seconds(10)};  // first byte to end of headers: slow-header attacks
  Duration body_timeout{std::chrono::seconds(60)};
  Duration idle_timeout{std::chrono::seconds(75)};  // between requests on a kept-alive connection
  // A response whose reader is slow: bytes we hold for it before it is cut.
  Bytes write_buffer_max{1024 * 1024};
  int connections_max = 60000;
};

}  // namespace pd::net
