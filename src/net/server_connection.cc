#include "net/server_connection.h"

#include <ctime>
#include <utility>

#include "base/log.h"

namespace pd::net {
namespace {

// Input kept while a response is in the making; more stays in the kernel.
constexpr std::size_t kBacklogBytesMax = 64 * 1024;
// How long we read and drop what a client still sends after our last byte. Closing at once would
// reset the connection and could destroy that last byte on its way (RFC 9112, 9.6).
constexpr Duration kLingerTime{std::chrono::seconds(1)};
// A write buffer above this is given back when it is empty: streams are mostly idle.
constexpr std::size_t kOutKeptBytesMax = 1024;

// What every response starts with, and what may come before any chunk's size.
constexpr std::string_view kHeadProbe = "H";
constexpr std::string_view kChunkProbe = "0";

}  // namespace

ServerConnection::ServerConnection(std::shared_ptr<ServerContext> context, StreamSocket socket,
                                   std::string peer)
    : context_(std::move(context)),
      loop_(context_->loop),
      socket_(std::move(socket)),
      timer_(loop_, [this] { on_deadline(); }),
      peer_(std::move(peer)),
      parser_(context_->limits) {}

Status ServerConnection::start() {
  auto watch =
      FdWatch::create(loop_, socket_.fd(),
                      {.on_readable = [this] { on_readable(); },
                       .on_writable = [this] { on_writable(); },
                       .on_hangup = [this] { close(/*reset=*/false, /*tell_handler=*/true); }});
  if (!watch) return std::unexpected(watch.error());
  watch_ = std::move(*watch);
  phase_since_ = loop_.now();
  if (context_->tls != nullptr) {
    if (Status begun = socket_.begin_tls(context_->tls); !begun) return begun;
    phase_ = Phase::kHandshake;
  }
  update_deadline();
  watch_.arm_readable();
  return {};
}

void ServerConnection::shake_hands() {
  const auto self = shared_from_this();
  switch (socket_.handshake()) {
    case StreamSocket::Handshake::kWaitsToRead:
      return watch_.arm_readable();
    case StreamSocket::Handshake::kWaitsToWrite:
      return watch_.arm_writable();
    case StreamSocket::Handshake::kFailed:
      log::debug("TLS handshake with {}: {}", peer_, socket_.failure());
      return close(/*reset=*/false, /*tell_handler=*/true);
    case StreamSocket::Handshake::kPlainHttp:
      return refuse({400, "this port speaks HTTPS; use https:// in the address"});
    case StreamSocket::Handshake::kDone:
      break;
  }
  phase_ = Phase::kReading;
  phase_since_ = loop_.now();
  update_deadline();
  on_readable();
}

void ServerConnection::on_stop() {
  if (context_->stop->idle_grace > Duration{}) return update_deadline();
  const bool idle = phase_ == Phase::kReading && parser_.state() == RequestParser::State::kIdle;
  if (idle || phase_ == Phase::kHandshake) return close(/*reset=*/false, /*tell_handler=*/false);
  close_after_ = true;
}

// --- input ---------------------------------------------------------------------------------------

void ServerConnection::on_writable() {
  const auto self = shared_from_this();
  if (phase_ == Phase::kHandshake) return shake_hands();
  pump();
  if (phase_ != Phase::kClosed && socket_.receive_waits_to_write()) on_readable();
}

void ServerConnection::on_readable() {
  if (phase_ == Phase::kHandshake) return shake_hands();
  const auto self = shared_from_this();
  std::vector<char>& buffer = context_->read_buffer;
  for (int round = 0; round < kReadsPerWake && accepts_input(); ++round) {
    const IoResult got = socket_.receive(buffer);
    if (got.outcome == IoOutcome::kWouldBlock) {
      if (socket_.receive_waits_to_write()) return watch_.arm_writable();
      break;
    }
    if (got.outcome == IoOutcome::kEnd) return on_end_of_input();
    if (got.outcome == IoOutcome::kError) return close(/*reset=*/false, /*tell_handler=*/true);
    take_input({buffer.data(), got.bytes});
    if (got.bytes < buffer.size()) break;
  }
  if (phase_ == Phase::kClosed) return;
  accepts_input() ? watch_.arm_readable() : watch_.arm_hangup();
}

bool ServerConnection::accepts_input() const {
  switch (phase_) {
    case Phase::kReading:
    case Phase::kUpgraded:
    case Phase::kLingering:
      return true;
    case Phase::kResponding:
    case Phase::kFlushing:
      return backlog_.size() < kBacklogBytesMax;
    case Phase::kHandshake:
    case Phase::kClosed:
      return false;
  }
  return false;
}

void ServerConnection::take_input(std::string_view bytes) {
  if (phase_ == Phase::kReading) return parse(bytes);
  if (phase_ == Phase::kUpgraded && backlog_.empty()) {
    const auto response = response_.lock();
    const auto on_bytes = response ? response->on_bytes : nullptr;
    if (on_bytes) (*on_bytes)(bytes);
    return;
  }
  if (phase_ != Phase::kLingering) backlog_.append(bytes);
}

void ServerConnection::parse(std::string_view bytes) {
  using State = RequestParser::State;
  const State before = parser_.state();
  const std::size_t used = parser_.feed(bytes);
  const State after = parser_.state();
  const Time now = loop_.now();
  if (before == State::kIdle) received_ = now;
  if (before != State::kBody && after == State::kBody) {
    phase_since_ = now;
    if (context_->wants_body && !context_->wants_body(parser_.request()))
      return begin_response(parser_.take_head());
    if (parser_.take_expect_continue()) queue(kContinue);
  }
  count_body(parser_.body_memory());
  if (after == State::kFailed) return refuse(parser_.problem());
  const auto most = static_cast<std::size_t>(context_->limits.bodies_bytes_max.value());
  if (after == State::kBody && context_->holdings->body_bytes > most) {
    parser_.abandon();
    count_body(0);
    return refuse({503, "more is being received than this server can hold; try again later"});
  }
  if (after == State::kComplete) {
    backlog_.assign(bytes.substr(used));
    return begin_response(parser_.take());
  }
  update_deadline();
}

// What came behind the request waits for the loop's next turn: the handler is still being told.
void ServerConnection::upgraded() {
  phase_ = Phase::kUpgraded;
  update_deadline();
  loop_.post([self = shared_from_this()] {
    if (self->phase_ != Phase::kUpgraded) return;
    const std::string before = std::exchange(self->backlog_, {});
    if (!before.empty()) self->take_input(before);
    if (self->phase_ == Phase::kUpgraded) self->watch_.arm_readable();
  });
}

void ServerConnection::count_body(std::size_t bytes) {
  context_->holdings->body_bytes += bytes - body_counted_;  // modulo 2^64, which a sum bears
  body_counted_ = bytes;
}

void ServerConnection::begin_response(HttpRequest request) {
  phase_ = Phase::kResponding;
  update_deadline();
  count_body(0);
  request.peer = peer_;
  request.received = received_;
  close_after_ = !parser_.keep_alive();
  auto response = std::make_shared<HttpResponse::Impl>();
  response->loop = &loop_;
  response->connection = this;
  response->head_request = request.method == "HEAD";
  response->http_1_0 = parser_.version_minor() == 0;
  response_ = response;
  context_->handler(std::move(request), HttpResponse(std::move(response)));
}

// The peer has ended its sending side: it has gone, or it has only said all it has to say. TCP
// shows both alike until we send a byte (docs/decisions/half-closed-clients.md).
void ServerConnection::on_end_of_input() {
  input_ended_ = true;
  if (phase_ == Phase::kUpgraded) return close(/*reset=*/false, /*tell_handler=*/true);
  if (phase_ == Phase::kReading || phase_ == Phase::kLingering) {
    return close(/*reset=*/false, /*tell_handler=*/false);
  }
  watch_.arm_hangup();
  if (phase_ == Phase::kResponding) probe_peer();
}

// Sends one byte that the response begins or continues with anyhow. A peer that has gone answers it
// with a reset, which on_hangup sees; one that still reads gets a correct response.
void ServerConnection::probe_peer() {
  const auto response = response_.lock();
  if (!response || unsent() > 0) return;  // bytes under way do the same
  if (!response->started) {
    response->head_bytes_sent = kHeadProbe.size();
    queue(kHeadProbe);
  } else if (response->chunked) {
    queue(kChunkProbe);  // "0" and "5\r\n" make "05\r\n"; before the last chunk, "00\r\n"
  }
}

// Answers what is no request that a handler could see, and ends the connection.
void ServerConnection::refuse(const HttpProblem& problem) {
  ++context_->refused[problem.status];
  const std::string body = error_body(problem.status, problem.message);
  std::string answer;
  append_response_head(answer, {.status = problem.status,
                                .content_type = "application/json",
                                .content_length = body.size(),
                                .close = true,
                                .date = context_->date.at(std::time(nullptr))});
  close_after_ = true;
  phase_ = Phase::kFlushing;
  queue(answer.append(body));
  update_deadline();
}

// --- output --------------------------------------------------------------------------------------

void ServerConnection::queue(std::string_view bytes) {
  out_.append(bytes);
  schedule_pump();
}

// At the end of the loop's turn: what is queued until then leaves in one system call.
void ServerConnection::schedule_pump() {
  if (std::exchange(pump_scheduled_, true)) return;
  loop_.post([self = shared_from_this()] { self->pump(); });
}

// More waits for this response's reader than may.
bool ServerConnection::too_slow() const {
  const HttpLimits& limits = context_->limits;
  auto bytes_max = static_cast<std::size_t>(limits.write_buffer_max.value());
  if (over_budget()) bytes_max /= 16;
  return unsent() > bytes_max;
}

bool ServerConnection::over_budget() const {
  return context_->holdings->unsent_bytes >
         static_cast<std::size_t>(context_->limits.write_buffers_max.value());
}

// Costs nothing while the reader keeps up.
void ServerConnection::count_unsent(std::size_t bytes) {
  if (bytes == unsent_counted_) return;
  context_->holdings->unsent_bytes += bytes - unsent_counted_;  // modulo 2^64, which a sum bears
  unsent_counted_ = bytes;
}

void ServerConnection::cut_later() {
  cut_scheduled_ = true;
  schedule_pump();
}

void ServerConnection::response_ended() {
  phase_ = Phase::kFlushing;
  schedule_pump();
}

// Writes what the socket takes. False: the connection has failed.
bool ServerConnection::flush() {
  if (unsent() == 0) return true;
  while (unsent() > 0) {
    const IoResult put = socket_.transmit(std::string_view(out_).substr(out_sent_));
    if (put.outcome == IoOutcome::kError) return false;
    if (put.outcome == IoOutcome::kWouldBlock) {
      watch_.arm_writable();
      if (out_sent_ > out_.size() / 2) {
        out_.erase(0, out_sent_);
        out_sent_ = 0;
      }
      return true;
    }
    out_sent_ += put.bytes;
    write_progress_ = loop_.now();
  }
  out_.clear();
  out_sent_ = 0;
  if (out_.capacity() > kOutKeptBytesMax) std::string().swap(out_);
  return true;
}

void ServerConnection::pump() {
  const auto self = shared_from_this();
  pump_scheduled_ = false;
  if (phase_ == Phase::kClosed) return;
  if (cut_scheduled_) return close(/*reset=*/true, /*tell_handler=*/true);
  if (unsent() > 0 && write_progress_ == Time{}) write_progress_ = loop_.now();
  if (!flush()) return close(/*reset=*/false, /*tell_handler=*/true);
  count_unsent(unsent());
  // A whole response was taken without a look at its size; together they have the streams' bound.
  if (phase_ == Phase::kFlushing && over_budget() && too_slow())
    return close(/*reset=*/true, /*tell_handler=*/false);
  if (unsent() == 0) {
    write_progress_ = Time{};
    if (phase_ == Phase::kFlushing) return response_flushed();
  }
  notify_drained();
  if (phase_ != Phase::kClosed) update_deadline();
}

void ServerConnection::response_flushed() {
  // Callbacks that will not come may hold the response itself: without this, for ever.
  if (const auto response = response_.lock()) {
    response->on_close = nullptr;
    response->on_drained = nullptr;
    response->on_bytes = nullptr;
  }
  response_.reset();
  if (close_after_ || (input_ended_ && backlog_.empty())) return linger();
  phase_ = Phase::kReading;
  phase_since_ = loop_.now();
  update_deadline();
  if (!backlog_.empty()) {
    const std::string input = std::exchange(backlog_, {});
    parse(input);
  }
  if (phase_ == Phase::kClosed) return;
  if (!input_ended_) return watch_.arm_readable();
  if (phase_ == Phase::kReading) close(/*reset=*/false, /*tell_handler=*/false);
}

void ServerConnection::notify_drained() {
  const auto response = response_.lock();
  if (!response || !response->on_drained) return;
  if (unsent() >= static_cast<std::size_t>(context_->limits.write_buffer_max.value()) / 4) return;
  const std::function<void()> work = std::exchange(response->on_drained, nullptr);
  work();
}

// --- deadlines and the end -----------------------------------------------------------------------

std::optional<Time> ServerConnection::deadline() const {
  const HttpLimits& limits = context_->limits;
  if (phase_ == Phase::kHandshake) return phase_since_ + limits.header_timeout;
  if (phase_ == Phase::kLingering) return phase_since_ + kLingerTime;
  if (unsent() > 0 && write_progress_ != Time{}) return write_progress_ + limits.write_timeout;
  if (phase_ != Phase::kReading) return std::nullopt;
  switch (parser_.state()) {
    case RequestParser::State::kIdle:
      if (!context_->stop) return phase_since_ + limits.idle_timeout;
      return std::min(phase_since_ + limits.idle_timeout,
                      std::max(phase_since_, context_->stop->since) + context_->stop->idle_grace);
    case RequestParser::State::kHead:
      return received_ + limits.header_timeout;
    default:
      return phase_since_ + limits.body_timeout;
  }
}

void ServerConnection::on_deadline() {
  const auto self = shared_from_this();
  const bool idle = parser_.state() == RequestParser::State::kIdle;
  if (phase_ == Phase::kReading && unsent() == 0 && !idle) {
    return refuse({408, "the request did not arrive in time"});
  }
  const bool slow_reader = unsent() > 0;
  close(/*reset=*/slow_reader, /*tell_handler=*/true);
}

void ServerConnection::linger() {
  if (input_ended_) return close(/*reset=*/false, /*tell_handler=*/false);
  socket_.end_writing();
  phase_ = Phase::kLingering;
  phase_since_ = loop_.now();
  update_deadline();
  watch_.arm_readable();
}

void ServerConnection::close(bool reset, bool tell_handler) {
  if (phase_ == Phase::kClosed) return;
  const auto self = shared_from_this();
  phase_ = Phase::kClosed;
  count_body(0);
  count_unsent(0);
  timer_.stop();
  watch_ = FdWatch();
  reset ? socket_.close_by_reset() : socket_.close_in_order();
  context_->leave(this);
  const auto response = response_.lock();
  if (!response) return;
  response->connection = nullptr;
  response->on_drained = nullptr;
  response->on_bytes = nullptr;
  const std::function<void()> on_close = std::exchange(response->on_close, nullptr);
  if (!tell_handler) response->loop = nullptr;
  if (response->ended || !tell_handler) return;
  response->lost = true;
  if (on_close) on_close();
}

}  // namespace pd::net
