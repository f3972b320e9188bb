// HTTP/1.1 client on an EventLoop with a pool of kept-alive connections per address. Loop thread
// only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/event_loop.h"
#include "net/http_types.h"

namespace pd::net {

struct HttpAddress {
  std::string host;  // an IP address, or a name that is resolved once per connection
  std::uint16_t port = 0;
  auto operator<=>(const HttpAddress&) const = default;
};
// "127.0.0.1:8000", "[::1]:8000"
Result<HttpAddress> parse_address(std::string_view text);

struct HttpCall {
  HttpAddress address;
  std::string method = "POST";
  std::string target;
  std::vector<Header> headers;
  std::string body;
  Duration connect_timeout{std::chrono::seconds(1)};
  // Longest silence between bytes of the response once the request is out; nullopt: none.
  std::optional<Duration> read_timeout;
  Bytes response_bytes_max{64 * 1024 * 1024};
};

// Callbacks of one call, in this order: on_head once, on_data any number of times, on_end exactly
// once.
struct HttpCallHandlers {
  std::function<void(int status, const std::vector<Header>& headers)> on_head;
  std::function<void(std::string_view bytes)>
      on_data;  // body bytes without chunk framing, as they arrive
  // Success: the response was complete. kUnavailable: connection refused, reset or cut short;
  // kDeadlineExceeded: a timeout; kCancelled is never reported: cancel() ends all callbacks at
  // once.
  std::function<void(Status)> on_end;
};

class HttpClient {
 public:
  using CallId = std::uint64_t;
  explicit HttpClient(EventLoop& loop);  // outlives the client
  ~HttpClient();                         // cancels what is under way

  // A kept-alive connection that dies before a byte of the response arrived, and before the server
  // can have acted on it (reset while idle), is replaced by a fresh one once, unseen (G28).
  CallId call(HttpCall call, HttpCallHandlers handlers);
  void cancel(CallId call);  // closes its connection; no callback runs afterwards

  // A whole response in one callback.
  struct Whole {
    int status = 0;
    std::vector<Header> headers;
    std::string body;
  };
  CallId fetch(HttpCall call, std::function<void(Result<Whole>)> done);

  std::uint64_t connections_opened() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

// For programs without a loop (command line): runs one call to its end on a private loop.
Result<HttpClient::Whole> fetch_blocking(HttpCall call);

}  // namespace pd::net
