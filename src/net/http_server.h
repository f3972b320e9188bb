// HTTP/1.1 server on an EventLoop. Strict parsing (RFC 9112): no bare LF, no obs-fold, no request
// with both Content-Length and Transfer-Encoding, no signs or spaces in lengths. Keep-alive, no
// pipelined concurrency (the next request of a connection is read when the response has ended),
// Expect: 100-continue. Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/event_loop.h"
#include "net/http_types.h"

namespace pd::net {

// One response in the making. Copies refer to the same response. Every call after the connection
// has gone is harmless and does nothing.
class HttpResponse {
 public:
  // A whole response.
  void send(int status, std::string_view content_type, std::string_view body,
            std::vector<Header> extra_headers = {});

  // A streamed response (chunked): start, write any number of times, end. write() sends at once
  // (TCP_NODELAY).
  void start(int status, std::string_view content_type, std::vector<Header> extra_headers = {});
  void write(std::string_view bytes);
  void end();
  // Cuts the connection: after start(), the only honest way to say that the rest will not come.
  void abort();

  bool open() const;     // the peer is connected and the response has not ended
  Bytes unsent() const;  // bytes accepted by write() that the socket has not taken
  // Called once when the peer disconnects before end(), also when it is cut for being slow.
  void on_close(std::function<void()> work);
  // Called once as soon as unsent() falls below a quarter of write_buffer_max.
  void on_drained(std::function<void()> work);

  struct Impl;  // net only
  explicit HttpResponse(std::shared_ptr<Impl> impl);

 private:
  std::shared_ptr<Impl> impl_;
};

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;  // 0: the kernel chooses
  HttpLimits limits;
};

class HttpServer {
 public:
  using Handler = std::function<void(HttpRequest request, HttpResponse response)>;
  // Listens at once. Errors name host and port, and for a port in use the process that has it where
  // the system tells. `loop` outlives the server.
  static Result<std::unique_ptr<HttpServer>> create(EventLoop& loop, HttpServerOptions options,
                                                    Handler handler);
  ~HttpServer();

  std::uint16_t port() const;
  int connections() const;
  void stop_accepting();  // established connections go on; idle kept-alive ones are closed
  void close_all();

 private:
  struct Impl;
  explicit HttpServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace pd::net
