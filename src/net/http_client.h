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
#include "net/tls.h"

namespace pd::net {

struct HttpAddress {
  std::string host;  // an IP address, or a name that is resolved once per connection
  std::uint16_t port = 0;
  bool tls = false;  // HttpClientOptions::tls says whom to trust
  auto operator<=>(const HttpAddress&) const = default;
};
// "127.0.0.1:8000", "[::1]:8000"
Result<HttpAddress> parse_address(std::string_view text);
std::string to_string(const HttpAddress& address);

// "http://127.0.0.1:8000", "https://api.example.com/v1": an address and what every target begins
// with, without a final slash. "127.0.0.1:8000" passes for http.
struct HttpUrl {
  HttpAddress address;
  std::string path;  // "/v1"; empty: none
};
Result<HttpUrl> parse_url(std::string_view text);

struct HttpCall {
  HttpAddress address;
  std::string method = "POST";
  std::string target;           // "/v1/models?limit=3"
  std::vector<Header> headers;  // Host, Content-Length and Connection are added
  std::string body;
  Duration connect_timeout{std::chrono::seconds(1)};
  // Longest silence: no byte of the request taken and none of the response arrived; nullopt: none.
  std::optional<Duration> read_timeout;
  Bytes response_bytes_max{64 * 1024 * 1024};
  // Another protocol to change to, as the field Upgrade names it; on a connection of its own. When
  // the server agrees (on_head with 101) the connection carries bytes both ways, HttpClient::send()
  // and on_data, until either side closes it.
  std::string upgrade;
  // Instead of HttpClientOptions::vanished_after, for a call with `upgrade`.
  std::optional<Duration> vanished_after;
};

// Callbacks of one call, in this order: on_head once, on_data any number of times, on_end exactly
// once. Any may be empty. A failure can come before on_head or after any on_data. None runs inside
// call() or cancel(); inside each of them call(), cancel() and the client's end are allowed.
struct HttpCallHandlers {
  std::function<void(int status, const std::vector<Header>& headers)> on_head;
  // Body bytes without chunk framing, as they arrive.
  std::function<void(std::string_view bytes)> on_data;
  // Success: the response was complete, whatever its status. kUnavailable: connection refused,
  // reset or cut short; kNoCapacity: this process has no descriptor left; kDeadlineExceeded: a
  // timeout; kCorrupt: not HTTP/1.1; kTooLarge: over response_bytes_max; kInvalidArgument: the call
  // itself; kCancelled: the other end closed what was upgraded. cancel() is not reported: it ends
  // all callbacks at once.
  std::function<void(Status)> on_end;
};

struct HttpClientOptions {
  HttpLimits response_limits;  // header_bytes_max and headers_max of responses
  int idle_per_address_max = 256;
  // Shorter than HttpLimits::idle_timeout and than the 60 s of common proxies: we let go first.
  Duration idle_timeout{std::chrono::seconds(30)};
  // A used connection whose peer has not acknowledged a byte of the request after this is taken for
  // dead. Above the first retransmission (200 ms), so that one lost packet is no reason.
  Duration stale_after{std::chrono::milliseconds(500)};
  // A machine that has vanished without a word ends the call after this, also one without a
  // read_timeout. A process that merely hangs does not: its system answers for it.
  Duration vanished_after{std::chrono::seconds(20)};
  std::shared_ptr<const TlsClientContext> tls;  // for addresses with tls; null: they are refused
};

class HttpClient {
 public:
  using CallId = std::uint64_t;                                          // never 0
  explicit HttpClient(EventLoop& loop, HttpClientOptions options = {});  // outlives the client
  ~HttpClient();  // cancels what is under way

  // A kept-alive connection that dies before a byte of the response arrived, and before the server
  // can have acted on it, is replaced by a fresh one once, unseen (G28). "Cannot have acted": the
  // peer's system has not acknowledged the whole request, or the method is idempotent.
  CallId call(HttpCall call, HttpCallHandlers handlers);
  void cancel(CallId call);  // resets its connection; no callback runs afterwards
  // After on_head with 101. What is sent in one turn of the loop leaves in one system call at its
  // end. Bounded by the caller: what the peer does not take waits here.
  void send(CallId call, std::string_view bytes);

  // A whole response in one callback.
  struct Whole {
    int status = 0;
    std::vector<Header> headers;
    std::string body;
  };
  CallId fetch(HttpCall call, std::function<void(Result<Whole>)> done);

  std::uint64_t connections_opened() const;
  int connections_idle() const;
  int calls_under_way() const;

  struct Impl;  // net only

 private:
  std::shared_ptr<Impl> impl_;
};

// For programs without a loop (command line): runs one call to its end on a private loop.
// kDeadlineExceeded: the answer is not whole after `patience`; nullopt: waits for ever.
Result<HttpClient::Whole> fetch_blocking(HttpCall call, HttpClientOptions options = {},
                                         std::optional<Duration> patience = std::nullopt);

}  // namespace pd::net
