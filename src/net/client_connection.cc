#include "net/client_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "net/resolver.h"

namespace pd::net {
namespace {

// A write buffer above this is given back when it is empty.
constexpr std::size_t kCommandsKeptBytesMax = 64 * 1024;

Error unavailable(std::string message) {
  return Error{ErrorCode::kUnavailable, std::move(message)};
}

}  // namespace

ClientConnection::ClientConnection(EventLoop& loop, const HttpClientOptions& options,
                                   ClientConnectionOwner& owner, HttpAddress address)
    : loop_(loop),
      options_(options),
      owner_(owner),
      address_(std::move(address)),
      timer_(loop, [this] { on_deadline(); }) {}

ClientConnection::~ClientConnection() = default;

// --- connecting ----------------------------------------------------------------------------------

void ClientConnection::open(std::shared_ptr<ClientCall> call) {
  call_ = std::move(call);
  timer_.set(loop_.now() + call_->connect_timeout);
  if (auto numeric = numeric_address(address_.host, address_.port)) {
    candidates_.push_back(*numeric);
    // Later, because a refusal can be known at once and must not be reported from inside call().
    loop_.post([weak = weak_from_this()] {
      const auto self = weak.lock();
      if (self && self->phase_ == Phase::kResolving) self->connect_to_next();
    });
    return;
  }
  resolve(loop_, address_.host, address_.port,
          [weak = weak_from_this()](Result<std::vector<SocketAddress>> found) {
            const auto self = weak.lock();
            if (!self || self->phase_ != Phase::kResolving) return;
            if (!found) return self->fail(std::move(found.error()));
            self->candidates_ = std::move(*found);
            std::ranges::reverse(self->candidates_);
            self->connect_to_next();
          });
}

void ClientConnection::connect_to_next() {
  phase_ = Phase::kConnecting;
  while (!candidates_.empty()) {
    const SocketAddress address = candidates_.back();
    candidates_.pop_back();
    watch_ = FdWatch();
    auto socket = connect_to(address);
    if (!socket) {
      last_failure_ = std::move(socket.error());
      continue;
    }
    socket_ = StreamSocket(std::move(*socket));
    watch_peer(socket_.fd(), call_->vanished_after);
    auto watch = FdWatch::create(loop_, socket_.fd(),
                                 {.on_readable = [this] { on_readable(); },
                                  .on_writable = [this] { on_writable(); },
                                  .on_hangup = {}});
    if (!watch) {
      last_failure_ = std::move(watch.error());
      continue;
    }
    watch_ = std::move(*watch);
    watch_.arm_writable();
    return;
  }
  fail(std::move(last_failure_));
}

void ClientConnection::on_connected() {
  if (const int number = connect_error(socket_.fd()); number != 0) {
    last_failure_ = unavailable(
        fmt::format("cannot connect to {}: {}", to_string(address_), std::strerror(number)));
    return connect_to_next();
  }
  if (address_.tls) {
    phase_ = Phase::kHandshake;
    if (options_.tls == nullptr) {
      return fail({ErrorCode::kInvalidArgument,
                   fmt::format("{} is to be reached by https, and no trust is configured for that",
                               to_string(address_))});
    }
    if (Status begun = socket_.begin_tls(options_.tls, address_.host); !begun)
      return fail(std::move(begun.error()));
    return shake_hands();
  }
  prepare(std::move(call_));
  begin_call();
}

void ClientConnection::shake_hands() {
  switch (socket_.handshake()) {
    case StreamSocket::Handshake::kWaitsToRead:
      return watch_.arm_readable();
    case StreamSocket::Handshake::kWaitsToWrite:
      return watch_.arm_writable();
    case StreamSocket::Handshake::kPlainHttp:
    case StreamSocket::Handshake::kFailed:
      return fail(
          unavailable(fmt::format("no TLS with {}: {}", to_string(address_), socket_.failure())));
    case StreamSocket::Handshake::kDone:
      break;
  }
  prepare(std::move(call_));
  begin_call();
}

// --- one call ------------------------------------------------------------------------------------

void ClientConnection::reuse(std::shared_ptr<ClientCall> call) {
  used_before_ = true;
  prepare(std::move(call));
  // Sending can fail at once, which must not be reported from inside call().
  loop_.post([weak = weak_from_this(), id = call_->id] {
    const auto self = weak.lock();
    if (self && self->call_ && self->call_->id == id) self->begin_call();
  });
}

void ClientConnection::prepare(std::shared_ptr<ClientCall> call) {
  phase_ = Phase::kBusy;
  call_ = std::move(call);
  parser_.emplace(options_.response_limits, call_->head_request, call_->upgrade);
  sent_ = 0;
  request_begun_ = false;
  timer_.set(std::nullopt);
}

void ClientConnection::begin_call() {
  // What has arrived on an idle connection, its end or bytes that would pass for the response, is
  // looked for before the request goes out.
  if (used_before_) {
    const IoResult got = socket_.receive(owner_.read_buffer());
    if (got.outcome == IoOutcome::kDone) return on_unasked_bytes();
    if (got.outcome != IoOutcome::kWouldBlock) return on_end_of_stream(got.error_number);
  }
  awaiting_acknowledgement_ = used_before_;
  if (used_before_) acknowledged_before_ = bytes_acknowledged(socket_.fd());
  watch_.arm_readable();
  send_more();
}

void ClientConnection::send_more() {
  const std::string_view wire = call_->wire;
  while (sent_ < wire.size()) {
    const IoResult put = socket_.transmit(wire.substr(sent_));
    if (put.outcome == IoOutcome::kError) {
      // The server may have answered before it closed (413): what it said comes first.
      return on_readable();
    }
    if (put.outcome == IoOutcome::kWouldBlock) {
      watch_.arm_writable();
      break;
    }
    sent_ += put.bytes;
    request_begun_ = true;
  }
  move_deadline();
}

void ClientConnection::send(std::string_view bytes) {
  if (phase_ != Phase::kUpgraded) return;
  out_.append(bytes);
  if (std::exchange(flush_scheduled_, true)) return;
  loop_.post([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self || self->phase_ != Phase::kUpgraded) return;
    self->flush_scheduled_ = false;
    self->flush();
  });
}

void ClientConnection::flush() {
  while (sent_ < out_.size()) {
    const IoResult put = socket_.transmit(std::string_view(out_).substr(sent_));
    // What the server said before it closed comes first.
    if (put.outcome == IoOutcome::kError) return on_readable();
    if (put.outcome == IoOutcome::kWouldBlock) {
      watch_.arm_writable();
      if (sent_ > out_.size() / 2) out_.erase(0, std::exchange(sent_, 0));
      return;
    }
    sent_ += put.bytes;
  }
  out_.clear();
  sent_ = 0;
  if (out_.capacity() > kCommandsKeptBytesMax) std::string().swap(out_);
}

void ClientConnection::move_deadline() {
  if (awaiting_acknowledgement_) return timer_.set(loop_.now() + options_.stale_after);
  if (call_->read_timeout) return timer_.set(loop_.now() + *call_->read_timeout);
  timer_.set(std::nullopt);
}

void ClientConnection::on_writable() {
  const auto self = shared_from_this();
  if (phase_ == Phase::kConnecting) return on_connected();
  if (phase_ == Phase::kHandshake) return shake_hands();
  if (socket_.receive_waits_to_write()) on_readable();
  if (phase_ == Phase::kBusy) send_more();
  if (phase_ == Phase::kUpgraded) flush();
}

void ClientConnection::on_readable() {
  const auto self = shared_from_this();
  if (phase_ == Phase::kHandshake) return shake_hands();
  std::vector<char>& buffer = owner_.read_buffer();
  for (int round = 0; round < kReadsPerWake; ++round) {
    const IoResult got = socket_.receive(buffer);
    if (got.outcome == IoOutcome::kWouldBlock) {
      if (socket_.receive_waits_to_write()) watch_.arm_writable();
      break;
    }
    if (got.outcome != IoOutcome::kDone) return on_end_of_stream(got.error_number);
    if (phase_ == Phase::kUpgraded) {
      const std::shared_ptr<ClientCall> call = call_;  // a callback may cancel it
      if (call->handlers.on_data) call->handlers.on_data({buffer.data(), got.bytes});
      if (phase_ == Phase::kClosed) return;
      if (got.bytes < buffer.size()) break;
      continue;
    }
    if (phase_ == Phase::kIdle || !request_begun_) return on_unasked_bytes();
    consume({buffer.data(), got.bytes});
    if (phase_ == Phase::kClosed) return;
    if (got.bytes < buffer.size()) break;
  }
  watch_.arm_readable();
}

// Bytes before a request must never be taken for its response.
void ClientConnection::on_unasked_bytes() {
  if (phase_ != Phase::kIdle) {
    return lose(unavailable(fmt::format("{} sent bytes before the request", to_string(address_))));
  }
  close(/*reset=*/true);
  owner_.idle_closed(*this);
}

void ClientConnection::consume(std::string_view input) {
  awaiting_acknowledgement_ = false;
  if (!parser_->started() && sent_ == call_->wire.size()) {
    std::string().swap(call_->wire);  // no retry from here on
    sent_ = 0;
  }
  move_deadline();
  while ((phase_ == Phase::kBusy || phase_ == Phase::kUpgraded) && call_) {
    const ResponseParser::Event event = parser_->next(input);
    if (event == ResponseParser::Event::kMore) return;
    if (event == ResponseParser::Event::kEnd) return finish_call(!input.empty());
    if (event == ResponseParser::Event::kFailed) {
      return fail(
          {ErrorCode::kCorrupt, fmt::format("{} answered with what is not HTTP/1.1: {}",
                                            to_string(address_), parser_->problem().message)});
    }
    if (!deliver(event)) return;
  }
}

// kHead or kData. False: the call has ended, by itself or by its own callback.
bool ClientConnection::deliver(ResponseParser::Event event) {
  const std::shared_ptr<ClientCall> call = call_;  // a callback may cancel it
  if (event == ResponseParser::Event::kHead) {
    if (parser_->status() == 101) {
      phase_ = Phase::kUpgraded;
      sent_ = 0;
      timer_.set(std::nullopt);
    }
    if (call->handlers.on_head) call->handlers.on_head(parser_->status(), parser_->headers());
  } else {
    if (phase_ != Phase::kUpgraded) call->response_bytes += parser_->data().size();
    if (call->response_bytes > call->response_bytes_max) {
      fail({ErrorCode::kTooLarge, fmt::format("the response of {} is over {} bytes",
                                              to_string(address_), call->response_bytes_max)});
      return false;
    }
    if (call->handlers.on_data) call->handlers.on_data(parser_->data());
  }
  return call_ == call;
}

void ClientConnection::on_end_of_stream(int error_number) {
  if (phase_ == Phase::kIdle) {
    close(/*reset=*/false);
    return owner_.idle_closed(*this);
  }
  if (phase_ == Phase::kUpgraded && call_) {
    if (error_number == ETIMEDOUT)
      return fail(unavailable(fmt::format("{} answers no more", to_string(address_))));
    return fail(
        {ErrorCode::kCancelled, fmt::format("{} closed the connection{}{}", to_string(address_),
                                            error_number != 0 ? ": " : "",
                                            error_number != 0 ? std::strerror(error_number) : "")});
  }
  if (phase_ != Phase::kBusy || !call_ || !parser_) return;
  if (error_number == 0 && parser_->finish() == ResponseParser::Event::kEnd) {
    return finish_call(/*input_left=*/true);
  }
  const char* what = parser_->started() ? "the response was cut short"
                                        : "the connection ended before the response";
  lose(unavailable(fmt::format("{}: {}{}{}", to_string(address_), what,
                               error_number != 0 ? ": " : "",
                               error_number != 0 ? std::strerror(error_number) : "")));
}

void ClientConnection::finish_call(bool input_left) {
  const bool reusable = parser_->keep_alive() && !input_left && sent_ == call_->wire.size();
  std::shared_ptr<ClientCall> call = std::exchange(call_, nullptr);
  parser_.reset();
  if (reusable) {
    phase_ = Phase::kIdle;
    timer_.set(loop_.now() + options_.idle_timeout);
    watch_.arm_readable();
  } else {
    close(/*reset=*/false);
  }
  owner_.call_ended(*this, std::move(call), {}, reusable);
}

// --- failing -------------------------------------------------------------------------------------

// Whole requests that reached the peer's system may have been acted on; others cannot.
bool ClientConnection::server_may_have_acted() const {
  if (sent_ < call_->wire.size()) return false;
  // Under TLS this counts what was sent encrypted, which is longer: an error to the safe side.
  const std::uint64_t acknowledged = bytes_acknowledged(socket_.fd()) - acknowledged_before_;
  return acknowledged >= call_->wire.size();
}

// The connection died. On one that was used before, that is how an old connection's end shows.
void ClientConnection::lose(Error failure) {
  const bool retry = used_before_ && !call_->retried && !parser_->started() &&
                     (call_->idempotent || !server_may_have_acted());
  if (!retry) return fail(std::move(failure));
  std::shared_ptr<ClientCall> call = std::exchange(call_, nullptr);
  close(/*reset=*/true);
  call->retried = true;
  owner_.call_unsent(*this, std::move(call));
}

void ClientConnection::fail(Error failure) {
  std::shared_ptr<ClientCall> call = std::exchange(call_, nullptr);
  close(/*reset=*/true);
  owner_.call_ended(*this, std::move(call), std::unexpected(std::move(failure)),
                    /*reusable=*/false);
}

void ClientConnection::on_deadline() {
  const auto self = shared_from_this();
  if (phase_ == Phase::kIdle) {
    close(/*reset=*/false);
    return owner_.idle_closed(*this);
  }
  if (phase_ != Phase::kBusy) {
    return fail({ErrorCode::kDeadlineExceeded,
                 fmt::format("cannot connect to {} within {} ms", to_string(address_),
                             static_cast<std::int64_t>(to_ms(call_->connect_timeout)))});
  }
  if (awaiting_acknowledgement_) {
    awaiting_acknowledgement_ = false;
    if (bytes_acknowledged(socket_.fd()) == acknowledged_before_) {
      return lose(unavailable(
          fmt::format("{} does not answer on a kept-alive connection", to_string(address_))));
    }
    return move_deadline();
  }
  fail({ErrorCode::kDeadlineExceeded,
        fmt::format("{} was silent for {} ms", to_string(address_),
                    static_cast<std::int64_t>(to_ms(call_->read_timeout.value_or(Duration{}))))});
}

void ClientConnection::close(bool reset) {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  timer_.stop();
  watch_ = FdWatch();
  reset ? socket_.close_by_reset() : socket_.close_in_order();
  call_.reset();
}

}  // namespace pd::net
