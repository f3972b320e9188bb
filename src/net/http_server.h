// HTTP/1.1 server on an EventLoop. Strict parsing (http_parser.h). Keep-alive, no pipelined
// concurrency (the next request of a connection is read when the response has ended), Expect:
// 100-continue. What the parser refuses is answered with a short JSON error and the connection
// closed; handlers see well-formed requests only. Loop thread only.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "net/event_loop.h"
#include "net/http_types.h"
#include "net/tls.h"

namespace pd::net {

// One response in the making. Copies refer to the same response. Every call after the connection
// has gone is harmless and does nothing. What is written in one turn of the loop leaves in one
// system call at its end (TCP_NODELAY: nothing waits longer). If all copies go before the response
// has ended, the client gets a 500 or, after start(), a cut connection.
class HttpResponse {
 public:
  // A whole response. For HEAD, 204 and 304 the body is left out.
  void send(int status, std::string_view content_type, std::string_view body,
            const std::vector<Header>& extra_headers = {});

  // A streamed response (chunked; for HTTP/1.0 delimited by close): start, write any number of
  // times, end. write() without start() and a second start() or send() do nothing.
  void start(int status, std::string_view content_type,
             const std::vector<Header>& extra_headers = {});
  void write(std::string_view bytes);
  void end();
  // Answers 101: from here on the connection carries bytes both ways, write() and `on_bytes`, until
  // either side ends it; no limit on what it carries but write_buffer_max. Only for a request that
  // asks for it (HttpRequest::asks_for()). `on_bytes` is never called from inside this call.
  void upgrade(std::string_view protocol, std::function<void(std::string_view)> on_bytes);
  // Cuts the connection: after start(), the only honest way to say that the rest will not come.
  // Calls no on_close.
  void abort();

  bool open() const;     // the peer is connected and the response has not ended
  Bytes unsent() const;  // bytes accepted by write() that the socket has not taken
  // Called once when the peer disconnects before end(), also when it is cut for being slow or by
  // close_all(). A client that only ended its sending side still gets its response
  // (docs/decisions/half-closed-clients.md). Never called from inside write(). It may hold this
  // response: it is let go soon after the end.
  void on_close(std::function<void()> work);
  // Called once as soon as unsent() is below a quarter of write_buffer_max; never from inside this
  // call.
  void on_drained(std::function<void()> work);

  struct Impl;  // net only
  explicit HttpResponse(std::shared_ptr<Impl> impl);

 private:
  std::shared_ptr<Impl> impl_;
};

// What the servers of one port hold together, so that their limits are the port's. Any thread.
struct HttpHoldings {
  std::atomic<int> connections{0};
  std::atomic<std::size_t> body_bytes{0};    // of memory, of those being received
  std::atomic<std::size_t> unsent_bytes{0};  // of responses that wait for their readers
};

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;  // 0: the kernel chooses
  HttpLimits limits;
  std::shared_ptr<const TlsServerContext> tls;  // null: without TLS
  std::shared_ptr<HttpHoldings> holdings;       // null: this server's limits are its own
  bool accepting = true;                        // false: from start_accepting() on
  // Asked when a request's head is there and its body is not. False: the handler gets it without
  // the body, at once, and the connection ends with the response. Null: every body is received.
  std::function<bool(const HttpRequest& head)> wants_body;
};

// Sockets that listen on options.host:port, for so many servers of one port (each its own loop),
// and a further descriptor of each, for a process that takes over.
Result<std::vector<UniqueFd>> open_listeners(const std::string& host, std::uint16_t port,
                                             int count);
Result<std::uint16_t> listening_port(const UniqueFd& listener);
Result<UniqueFd> duplicate(const UniqueFd& descriptor);
Result<std::vector<UniqueFd>> duplicate(const std::vector<UniqueFd>& descriptors);

class HttpServer {
 public:
  using Handler = std::function<void(HttpRequest request, HttpResponse response)>;
  // Listens at once. Errors name host and port, and for a port in use the process that has it where
  // the system tells. `loop` outlives the server.
  static Result<std::unique_ptr<HttpServer>> create(EventLoop& loop,
                                                    const HttpServerOptions& options,
                                                    Handler handler);
  // The same on sockets that listen already, of one port; at least one. They are non-blocking.
  static Result<std::unique_ptr<HttpServer>> adopt(EventLoop& loop,
                                                   const HttpServerOptions& options,
                                                   std::vector<UniqueFd> listeners,
                                                   Handler handler);
  ~HttpServer();  // cuts all connections; no callback runs afterwards

  std::uint16_t port() const;
  int connections() const;
  // Connections not served: over connections_max or out of descriptors; answered with 503 if that
  // was possible.
  std::uint64_t connections_refused() const;
  // Requests that no handler saw, by the status they were answered with.
  const std::map<int, std::uint64_t>& requests_refused() const;
  void start_accepting();
  // A renewed certificate, for connections from here on. Only for a server that was made with one.
  void use_tls(std::shared_ptr<const TlsServerContext> tls);
  // Established connections go on; each ends with its next response, idle kept-alive ones after
  // `idle_grace`: a client that is just sending on one must not lose its request.
  void stop_accepting(Duration idle_grace = Duration{});
  void close_all();  // cuts them

 private:
  struct Impl;
  explicit HttpServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace pd::net
