#include "net/http_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <map>
#include <unordered_map>
#include <utility>

#include "net/client_connection.h"
#include "net/http_grammar.h"

namespace pd::net {
namespace {

bool is_idempotent(std::string_view method) {  // RFC 9110, 9.2.2
  return method == "GET" || method == "HEAD" || method == "PUT" || method == "DELETE" ||
         method == "OPTIONS";
}

std::unexpected<Error> invalid(std::string message) {
  return error(ErrorCode::kInvalidArgument, std::move(message));
}

Result<std::string> request_bytes(const HttpCall& call) {
  if (!is_token(call.method)) return invalid("the call's method is not an HTTP method");
  if (!is_target(call.target) || call.target.front() != '/') {
    return invalid("the call's target is not a path that starts with /");
  }
  std::string wire;
  wire.reserve(256 + call.body.size());
  wire.append(call.method).append(" ").append(call.target).append(" HTTP/1.1\r\n");
  bool has_host = false;
  for (const auto& [name, value] : call.headers) {
    if (!is_token(name) || !is_field_value(value)) {
      return invalid("a header of the call has a character that is not allowed");
    }
    const std::string lower_case = to_lower(name);
    if (lower_case == "content-length" || lower_case == "transfer-encoding" ||
        lower_case == "connection" || lower_case == "upgrade") {
      return invalid(fmt::format("header {} is set by the client itself", lower_case));
    }
    has_host = has_host || lower_case == "host";
    wire.append(name).append(": ").append(value).append("\r\n");
  }
  if (!call.upgrade.empty()) {
    if (!is_token(call.upgrade) || !call.body.empty())
      return invalid("a call with an upgrade names one protocol and has no body");
    wire.append("connection: upgrade\r\nupgrade: ").append(call.upgrade).append("\r\n");
  }
  if (!has_host) wire.append("host: ").append(to_string(call.address)).append("\r\n");
  if (!call.body.empty() || call.method == "POST" || call.method == "PUT") {
    fmt::format_to(std::back_inserter(wire), "content-length: {}\r\n", call.body.size());
  }
  wire.append("\r\n").append(call.body);
  return wire;
}

}  // namespace

struct HttpClient::Impl : ClientConnectionOwner, std::enable_shared_from_this<HttpClient::Impl> {
  Impl(EventLoop& the_loop, HttpClientOptions the_options) : loop(the_loop), options(the_options) {}

  CallId start(HttpCall call, HttpCallHandlers handlers);
  void place(std::shared_ptr<ClientCall> call, bool fresh);
  void cancel(CallId id);
  void send(CallId id, std::string_view bytes);
  void cancel_all();
  std::shared_ptr<ClientConnection> take_idle(const HttpAddress& address);

  void call_ended(ClientConnection& connection, std::shared_ptr<ClientCall> call, Status outcome,
                  bool reusable) override;
  void call_unsent(ClientConnection& connection, std::shared_ptr<ClientCall> call) override;
  void idle_closed(ClientConnection& connection) override;
  std::vector<char>& read_buffer() override { return buffer; }

  EventLoop& loop;
  const HttpClientOptions options;
  std::vector<char> buffer = std::vector<char>(64 * 1024);
  CallId last_id = 0;
  std::uint64_t opened = 0;
  int idle_count = 0;
  std::unordered_map<CallId, std::shared_ptr<ClientConnection>> under_way;
  std::unordered_map<CallId, std::function<void(Status)>> refused;  // not yet told
  std::map<HttpAddress, std::vector<std::shared_ptr<ClientConnection>>> idle;
};

HttpClient::CallId HttpClient::Impl::start(HttpCall call, HttpCallHandlers handlers) {
  const CallId id = ++last_id;
  auto wire = request_bytes(call);
  if (!wire) {
    refused.emplace(id, std::move(handlers.on_end));
    loop.post([weak = weak_from_this(), id, failure = wire.error()] {
      const auto self = weak.lock();
      if (!self) return;
      auto node = self->refused.extract(id);
      if (!node.empty() && node.mapped()) node.mapped()(std::unexpected(failure));
    });
    return id;
  }
  auto started = std::make_shared<ClientCall>();
  started->id = id;
  started->address = std::move(call.address);
  started->wire = std::move(*wire);
  started->head_request = call.method == "HEAD";
  started->upgrade = !call.upgrade.empty();
  started->vanished_after = call.vanished_after.value_or(options.vanished_after);
  started->idempotent = is_idempotent(call.method);
  started->connect_timeout = call.connect_timeout;
  started->read_timeout = call.read_timeout;
  started->response_bytes_max =
      static_cast<std::uint64_t>(std::max<Bytes::rep>(call.response_bytes_max.value(), 0));
  started->handlers = std::move(handlers);
  const bool fresh = started->upgrade;
  place(std::move(started), fresh);
  return id;
}

void HttpClient::Impl::place(std::shared_ptr<ClientCall> call, bool fresh) {
  const CallId id = call->id;
  if (!fresh) {
    if (auto connection = take_idle(call->address)) {
      under_way.emplace(id, connection);
      return connection->reuse(std::move(call));
    }
  }
  ++opened;
  auto connection = std::make_shared<ClientConnection>(loop, options, *this, call->address);
  under_way.emplace(id, connection);
  connection->open(std::move(call));
}

// The one used last: its path is known to work most recently, and the others can age out.
std::shared_ptr<ClientConnection> HttpClient::Impl::take_idle(const HttpAddress& address) {
  const auto found = idle.find(address);
  if (found == idle.end()) return nullptr;
  std::shared_ptr<ClientConnection> connection = std::move(found->second.back());
  found->second.pop_back();
  if (found->second.empty()) idle.erase(found);
  --idle_count;
  return connection;
}

void HttpClient::Impl::call_ended(ClientConnection& connection, std::shared_ptr<ClientCall> call,
                                  Status outcome, bool reusable) {
  const auto self = shared_from_this();
  under_way.erase(call->id);
  if (reusable) {
    auto& pool = idle[connection.address()];
    if (pool.size() < static_cast<std::size_t>(options.idle_per_address_max)) {
      pool.push_back(connection.shared_from_this());
      ++idle_count;
    } else {
      connection.close(/*reset=*/false);
    }
  }
  if (call->handlers.on_end) call->handlers.on_end(std::move(outcome));
}

// One dead idle connection is a sign: the others to that address have most likely met the same end.
void HttpClient::Impl::call_unsent(ClientConnection& connection, std::shared_ptr<ClientCall> call) {
  under_way.erase(call->id);
  while (auto other = take_idle(connection.address())) other->close(/*reset=*/false);
  place(std::move(call), /*fresh=*/true);
}

void HttpClient::Impl::idle_closed(ClientConnection& connection) {
  const auto found = idle.find(connection.address());
  if (found == idle.end()) return;
  const auto erased = std::erase_if(
      found->second, [&connection](const auto& entry) { return entry.get() == &connection; });
  idle_count -= static_cast<int>(erased);
  if (found->second.empty()) idle.erase(found);
}

void HttpClient::Impl::cancel(CallId id) {
  refused.erase(id);
  auto node = under_way.extract(id);
  if (!node.empty()) node.mapped()->close(/*reset=*/true);
}

void HttpClient::Impl::send(CallId id, std::string_view bytes) {
  if (const auto it = under_way.find(id); it != under_way.end()) it->second->send(bytes);
}

void HttpClient::Impl::cancel_all() {
  refused.clear();
  for (const auto& [id, connection] : std::exchange(under_way, {})) connection->close(true);
  for (const auto& [address, pool] : std::exchange(idle, {})) {
    for (const auto& connection : pool) connection->close(/*reset=*/false);
  }
  idle_count = 0;
}

HttpClient::HttpClient(EventLoop& loop, HttpClientOptions options)
    : impl_(std::make_shared<Impl>(loop, options)) {}

HttpClient::~HttpClient() { impl_->cancel_all(); }

HttpClient::CallId HttpClient::call(HttpCall call, HttpCallHandlers handlers) {
  return impl_->start(std::move(call), std::move(handlers));
}

void HttpClient::cancel(CallId call) { impl_->cancel(call); }

void HttpClient::send(CallId call, std::string_view bytes) { impl_->send(call, bytes); }

HttpClient::CallId HttpClient::fetch(HttpCall call, std::function<void(Result<Whole>)> done) {
  auto whole = std::make_shared<Whole>();
  HttpCallHandlers handlers;
  handlers.on_head = [whole](int status, const std::vector<Header>& headers) {
    whole->status = status;
    whole->headers = headers;
  };
  handlers.on_data = [whole](std::string_view bytes) { whole->body.append(bytes); };
  handlers.on_end = [whole, done = std::move(done)](Status outcome) {
    if (outcome) return done(std::move(*whole));
    done(std::unexpected(std::move(outcome.error())));
  };
  return impl_->start(std::move(call), std::move(handlers));
}

std::uint64_t HttpClient::connections_opened() const { return impl_->opened; }
int HttpClient::connections_idle() const { return impl_->idle_count; }
int HttpClient::calls_under_way() const {
  return static_cast<int>(impl_->under_way.size() + impl_->refused.size());
}

Result<HttpClient::Whole> fetch_blocking(HttpCall call, HttpClientOptions options,
                                         std::optional<Duration> patience) {
  EventLoop loop;
  HttpClient client(loop, std::move(options));
  Result<HttpClient::Whole> result = error(ErrorCode::kInternal, "the call has not ended");
  if (patience) {
    loop.call_at(loop.now() + *patience, [&] {
      result = error(ErrorCode::kDeadlineExceeded,
                     fmt::format("no whole answer within {:g} s", to_seconds(*patience)));
      loop.stop();
    });
  }
  client.fetch(std::move(call), [&](Result<HttpClient::Whole> whole) {
    result = std::move(whole);
    loop.stop();
  });
  loop.run();
  return result;
}

Result<HttpAddress> parse_address(std::string_view text) {
  const auto refuse = [text] {
    return invalid(fmt::format("'{}' is not an address: write host:port, [v6]:port", text));
  };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return refuse();
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.contains(':')) {
    return refuse();
  }
  const auto number = parse_decimal(port);
  if (host.empty() || !is_authority(host) || !number || *number == 0 || *number > 65535) {
    return refuse();
  }
  return HttpAddress{std::string(host), static_cast<std::uint16_t>(*number)};
}

Result<HttpUrl> parse_url(std::string_view text) {
  const auto refuse = [text] {
    return invalid(
        fmt::format("'{}' is not a URL: write http://host:port or https://host/path", text));
  };
  HttpUrl out;
  const std::size_t scheme_end = text.find("://");
  std::string_view rest = text;
  if (scheme_end != std::string_view::npos) {
    const std::string scheme = to_lower(text.substr(0, scheme_end));
    if (scheme != "http" && scheme != "https") return refuse();
    out.address.tls = scheme == "https";
    rest = text.substr(scheme_end + 3);
  }
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  std::string authority(rest.substr(0, slash));
  out.path = rest.substr(slash);
  while (out.path.ends_with('/')) out.path.pop_back();
  if (!out.path.empty() && (!is_target(out.path) || out.path.find_first_of("?#") != out.path.npos))
    return refuse();
  // A colon outside brackets parts the port; without one a scheme has its own.
  const std::size_t colon = authority.rfind(':');
  const bool has_port =
      colon != std::string::npos && authority.find(']', colon) == std::string::npos;
  if (!has_port && scheme_end == std::string_view::npos) return refuse();
  if (!has_port) authority += out.address.tls ? ":443" : ":80";
  auto address = parse_address(authority);
  if (!address) return refuse();
  out.address.host = std::move(address->host);
  out.address.port = address->port;
  return out;
}

std::string to_string(const HttpAddress& address) {
  return address.host.find(':') == std::string::npos
             ? fmt::format("{}:{}", address.host, address.port)
             : fmt::format("[{}]:{}", address.host, address.port);
}

}  // namespace pd::net
