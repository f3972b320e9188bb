#include "net/http_server.h"

#include <fcntl.h>

#include <array>
#include <ctime>
#include <utility>

#include "base/log.h"
#include "net/server_connection.h"
#include "net/tcp_socket.h"

namespace pd::net {
namespace {

constexpr int kAcceptsPerWake = 64;
// Out of descriptors even with the reserve: look again after this.
constexpr Duration kAcceptPause{std::chrono::milliseconds(100)};
// Refusals come in thousands; one line for each would be a second outage.
constexpr Duration kRefusalLogGap{std::chrono::seconds(10)};

UniqueFd reserve_descriptor() { return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

}  // namespace

struct HttpServer::Impl : std::enable_shared_from_this<HttpServer::Impl> {
  Impl(EventLoop& loop, const HttpServerOptions& options, Handler handler)
      : context(std::make_shared<ServerContext>(loop, options, std::move(handler))),
        pause(loop, [this] { arm_all(); }) {}

  // A socket that listens.
  struct Door {
    UniqueFd socket;
    FdWatch watch;
  };

  void on_acceptable(Door& door);
  bool accept_one(Door& door);
  void arm_all() {
    for (const auto& door : doors) door->watch.arm_readable();
  }
  void admit(UniqueFd socket, const SocketAddress& peer);
  void refuse(UniqueFd socket, const char* reason);
  void stop_accepting(Duration idle_grace);
  void close_all(bool tell_handlers);

  std::shared_ptr<ServerContext> context;
  std::vector<std::unique_ptr<Door>> doors;
  DeadlineTimer pause;
  UniqueFd reserve;  // closed for a moment when no other descriptor is left, to answer with 503
  std::uint16_t port = 0;
  std::uint64_t refused = 0;
  Time refusal_logged{};
};

void HttpServer::Impl::on_acceptable(Door& door) {
  const auto self = shared_from_this();
  for (int i = 0; i < kAcceptsPerWake && !context->stop; ++i) {
    if (!accept_one(door)) return;
  }
  if (!context->stop) door.watch.arm_readable();
}

// False: nothing more to accept now, and what wakes us is armed.
bool HttpServer::Impl::accept_one(Door& door) {
  AcceptResult got = accept_from(door.socket.get());
  switch (got.outcome) {
    case AcceptOutcome::kAccepted:
      admit(std::move(got.socket), got.peer);
      return true;
    case AcceptOutcome::kRetry:
      return true;
    case AcceptOutcome::kNone:
      door.watch.arm_readable();
      return false;
    case AcceptOutcome::kNoDescriptor:
      break;
  }
  reserve.reset();
  AcceptResult turned_away = accept_from(door.socket.get());
  const bool accepted = turned_away.outcome == AcceptOutcome::kAccepted;
  if (accepted) refuse(std::move(turned_away.socket), "the server is out of file descriptors");
  reserve = reserve_descriptor();
  if (accepted) return true;
  pause.set(context->loop.now() + kAcceptPause);
  return false;
}

void HttpServer::Impl::admit(UniqueFd socket, const SocketAddress& peer) {
  if (context->holdings->connections >= context->limits.connections_max) {
    return refuse(std::move(socket), "the server has as many connections as it accepts");
  }
  watch_peer(socket.get(), context->limits.write_timeout);
  auto connection =
      std::make_shared<ServerConnection>(context, StreamSocket(std::move(socket)), peer.text());
  context->enter(connection);
  if (!connection->start()) {
    ++refused;
    connection->close(/*reset=*/true, /*tell_handler=*/false);
  }
}

// Best effort: one write, no wait.
void HttpServer::Impl::refuse(UniqueFd socket, const char* reason) {
  ++refused;
  const Time now = context->loop.now();
  if (refusal_logged == Time{} || now - refusal_logged >= kRefusalLogGap) {
    refusal_logged = now;
    log::error("port {}: refusing connections: {} ({} refused so far)", port, reason, refused);
  }
  const std::string body = error_body(503, reason);
  static const std::vector<Header> kRetryAfter = {{"retry-after", "1"}};
  std::string answer;
  append_response_head(answer, {.status = 503,
                                .content_type = "application/json",
                                .extra = &kRetryAfter,
                                .content_length = body.size(),
                                .close = true,
                                .date = context->date.at(std::time(nullptr))});
  // Under TLS the answer would need a handshake first, which costs more than the refusal saves.
  if (context->tls != nullptr) return;
  // What has arrived is read first: unread input would turn the close into a reset, and the answer
  // would be lost.
  static_cast<void>(receive(socket.get(), context->read_buffer));
  static_cast<void>(transmit(socket.get(), answer.append(body)));
  shut_down_writing(socket.get());
}

void HttpServer::Impl::stop_accepting(Duration idle_grace) {
  pause.stop();
  doors.clear();
  context->stop = {.since = context->loop.now(), .idle_grace = idle_grace};
  const auto connections = context->connections;  // closing takes them out of the original
  for (const auto& [raw, connection] : connections) connection->on_stop();
}

void HttpServer::Impl::close_all(bool tell_handlers) {
  const auto connections = context->connections;
  for (const auto& [raw, connection] : connections)
    connection->close(/*reset=*/true, tell_handlers);
}

Result<std::vector<UniqueFd>> open_listeners(const std::string& host, std::uint16_t port,
                                             int count) {
  return listen_on(host, port, count);
}

Result<std::uint16_t> listening_port(const UniqueFd& listener) {
  return local_port(listener.get());
}

Result<UniqueFd> duplicate(const UniqueFd& descriptor) {
  UniqueFd copy(::fcntl(descriptor.get(), F_DUPFD_CLOEXEC, 0));
  if (copy) return copy;
  return error(ErrorCode::kUnavailable, "this process is out of file descriptors (ulimit -n)");
}

Result<std::vector<UniqueFd>> duplicate(const std::vector<UniqueFd>& descriptors) {
  std::vector<UniqueFd> out;
  for (const UniqueFd& descriptor : descriptors) {
    auto copy = duplicate(descriptor);
    if (!copy) return std::unexpected(copy.error());
    out.push_back(std::move(*copy));
  }
  return out;
}

Result<std::unique_ptr<HttpServer>> HttpServer::create(EventLoop& loop,
                                                       const HttpServerOptions& options,
                                                       Handler handler) {
  auto listeners = listen_on(options.host, options.port);
  if (!listeners) return std::unexpected(listeners.error());
  return adopt(loop, options, std::move(*listeners), std::move(handler));
}

Result<std::unique_ptr<HttpServer>> HttpServer::adopt(EventLoop& loop,
                                                      const HttpServerOptions& options,
                                                      std::vector<UniqueFd> listeners,
                                                      Handler handler) {
  auto impl = std::make_shared<Impl>(loop, options, std::move(handler));
  impl->reserve = reserve_descriptor();
  for (UniqueFd& listener : listeners) {
    const auto port = local_port(listener.get());
    if (!port) return std::unexpected(port.error());
    impl->port = *port;
    auto door = std::make_unique<Impl::Door>();
    door->socket = std::move(listener);
    auto watch = FdWatch::create(
        loop, door->socket.get(),
        {.on_readable = [raw = impl.get(), at = door.get()] { raw->on_acceptable(*at); }});
    if (!watch) return std::unexpected(watch.error());
    door->watch = std::move(*watch);
    impl->doors.push_back(std::move(door));
  }
  if (options.accepting) impl->arm_all();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() {
  impl_->stop_accepting({});
  impl_->close_all(/*tell_handlers=*/false);
}

std::uint16_t HttpServer::port() const { return impl_->port; }
int HttpServer::connections() const { return static_cast<int>(impl_->context->connections.size()); }
std::uint64_t HttpServer::connections_refused() const { return impl_->refused; }
const std::map<int, std::uint64_t>& HttpServer::requests_refused() const {
  return impl_->context->refused;
}
void HttpServer::start_accepting() { impl_->arm_all(); }
void HttpServer::use_tls(std::shared_ptr<const TlsServerContext> tls) {
  impl_->context->tls = std::move(tls);
}
void HttpServer::stop_accepting(Duration idle_grace) { impl_->stop_accepting(idle_grace); }
void HttpServer::close_all() { impl_->close_all(/*tell_handlers=*/true); }

}  // namespace pd::net
