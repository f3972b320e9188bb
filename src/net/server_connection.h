// One accepted connection: reads requests, writes responses, keeps its deadlines. Internal to net.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/unique_fd.h"
#include "net/deadline_timer.h"
#include "net/event_loop.h"
#include "net/fd_watch.h"
#include "net/http_message.h"
#include "net/http_parser.h"
#include "net/http_server.h"
#include "net/stream_socket.h"

namespace pd::net {

class ServerConnection;

// What the connections of one server share. Each connection holds it; it goes with the last.
struct ServerContext {
  ServerContext(EventLoop& the_loop, const HttpServerOptions& options,
                HttpServer::Handler the_handler)
      : loop(the_loop),
        limits(options.limits),
        handler(std::move(the_handler)),
        wants_body(options.wants_body),
        tls(options.tls),
        holdings(options.holdings ? options.holdings : std::make_shared<HttpHoldings>()) {}
  void enter(const std::shared_ptr<ServerConnection>& connection) {
    connections.emplace(connection.get(), connection);
    ++holdings->connections;
  }
  void leave(ServerConnection* connection) {
    connections.erase(connection);
    --holdings->connections;
  }
  EventLoop& loop;
  const HttpLimits limits;
  const HttpServer::Handler handler;
  const std::function<bool(const HttpRequest&)> wants_body;
  // What new connections speak; null: no TLS. Replaced when the certificate is renewed.
  std::shared_ptr<const TlsServerContext> tls;
  const std::shared_ptr<HttpHoldings> holdings;  // with the other servers of this port
  // All reads go through this one buffer: an idle connection holds none.
  std::vector<char> read_buffer = std::vector<char>(64 * 1024);
  HttpDate date;
  std::map<int, std::uint64_t> refused;  // by status: HttpServer::requests_refused()
  // Once the server ends: no connection is accepted, and each that stands ends with the response
  // that says so, or when it has been idle for `idle_grace`.
  struct Stop {
    Time since;
    Duration idle_grace;
  };
  std::optional<Stop> stop;
  std::unordered_map<ServerConnection*, std::shared_ptr<ServerConnection>> connections;
};

class ServerConnection : public std::enable_shared_from_this<ServerConnection> {
 public:
  ServerConnection(std::shared_ptr<ServerContext> context, StreamSocket socket, std::string peer);
  // Once, after it has been entered in context.connections.
  Status start();
  void on_stop();  // of the server: what context.stop says begins to hold
  // Takes it out of context.connections. `tell_handler`: runs the response's on_close.
  void close(bool reset, bool tell_handler);

 private:
  friend class HttpResponse;
  friend struct HttpResponse::Impl;

  // From the response in the making:
  void queue(std::string_view bytes);
  void schedule_pump();
  void response_ended();
  void cut_later();
  std::size_t unsent() const { return out_.size() - out_sent_; }
  bool too_slow() const;
  bool over_budget() const;  // what all slow readers together may leave unsent

  void shake_hands();
  void on_readable();
  void on_writable();
  void take_input(std::string_view bytes);
  void upgraded();
  bool accepts_input() const;
  void parse(std::string_view bytes);
  void count_body(std::size_t bytes);
  void begin_response(HttpRequest request);
  void on_end_of_input();
  void probe_peer();
  void refuse(const HttpProblem& problem);

  bool flush();
  void pump();
  void count_unsent(std::size_t bytes);
  void response_flushed();
  void notify_drained();

  std::optional<Time> deadline() const;
  void update_deadline() { timer_.set(deadline()); }
  void on_deadline();
  void linger();

  enum class Phase {
    kHandshake,   // of TLS
    kReading,     // between requests or inside one
    kResponding,  // a handler has the response; input is kept for later
    kUpgraded,    // the same, and input is the handler's
    kFlushing,    // the response has ended, not all of it is written
    kLingering,   // we have ended our side and throw away what still comes
    kClosed,
  };

  std::shared_ptr<ServerContext> context_;
  EventLoop& loop_;
  StreamSocket socket_;
  FdWatch watch_;
  DeadlineTimer timer_;
  std::string peer_;
  RequestParser parser_;
  std::size_t body_counted_ = 0;  // this connection's part of holdings->body_bytes
  Phase phase_ = Phase::kReading;
  bool close_after_ = false;  // no further request after this response
  bool input_ended_ = false;  // the peer has ended its sending side
  bool pump_scheduled_ = false;
  bool cut_scheduled_ = false;
  std::weak_ptr<HttpResponse::Impl> response_;
  std::string backlog_;  // input that came while a response was in the making
  std::string out_;      // to be written, from out_sent_ on
  std::size_t out_sent_ = 0;
  std::size_t unsent_counted_ = 0;  // this connection's part of holdings->unsent_bytes
  Time received_{};                 // first byte of the current request
  Time phase_since_{};              // start of the handshake, idleness, body, lingering
  Time write_progress_{};           // when the peer last took bytes, while some wait
};

// The response in the making. Handles own it; the connection only knows it.
struct HttpResponse::Impl {
  ~Impl();  // the last handle has gone: see HttpResponse
  void send(int status, std::string_view content_type, std::string_view body,
            const std::vector<Header>& extra_headers);
  void start(int status, std::string_view content_type, const std::vector<Header>& extra_headers);
  void upgrade(std::string_view protocol, std::function<void(std::string_view)> on_bytes);
  void write(std::string_view bytes);
  void end();
  void abort();
  bool open() const { return connection != nullptr && !ended; }
  void queue(std::string_view bytes);

  EventLoop* loop = nullptr;               // null: the server has gone
  ServerConnection* connection = nullptr;  // null: the connection has gone
  bool head_request = false;
  bool http_1_0 = false;
  bool started = false;
  bool bodyless = false;  // HEAD, 204, 304
  bool chunked = false;
  bool ended = false;
  bool lost = false;  // the peer went before the end
  // Bytes at the front of the head that probe_peer() has sent already.
  std::size_t head_bytes_sent = 0;
  std::function<void()> on_close;
  std::function<void()> on_drained;
  // After upgrade(). Shared with the call under way, which may end all of this.
  std::shared_ptr<std::function<void(std::string_view)>> on_bytes;
};

}  // namespace pd::net
