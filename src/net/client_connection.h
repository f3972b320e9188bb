// One connection to a server: carries one call at a time, and lies idle between them; or changes to
// another protocol and is that call's for good. Internal to net.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/deadline_timer.h"
#include "net/fd_watch.h"
#include "net/http_client.h"
#include "net/http_parser.h"
#include "net/stream_socket.h"
#include "net/tcp_socket.h"

namespace pd::net {

class ClientConnection;

struct ClientCall {
  HttpClient::CallId id = 0;
  HttpAddress address;
  std::string wire;  // head and body as sent; dropped when the response begins
  bool head_request = false;
  bool upgrade = false;
  Duration vanished_after{};
  bool idempotent = false;
  bool retried = false;
  Duration connect_timeout{};
  std::optional<Duration> read_timeout;
  std::uint64_t response_bytes_max = 0;
  std::uint64_t response_bytes = 0;
  HttpCallHandlers handlers;
};

// What a connection tells its client. The connection has let go of the call by then.
class ClientConnectionOwner {
 public:
  virtual ~ClientConnectionOwner() = default;
  // The call has ended. `reusable`: the connection is idle and open; otherwise it is closed.
  virtual void call_ended(ClientConnection& connection, std::shared_ptr<ClientCall> call,
                          Status outcome, bool reusable) = 0;
  // The call failed on a used connection and the server cannot have acted on it.
  virtual void call_unsent(ClientConnection& connection, std::shared_ptr<ClientCall> call) = 0;
  // An idle connection has closed or has become too old.
  virtual void idle_closed(ClientConnection& connection) = 0;
  virtual std::vector<char>& read_buffer() = 0;
};

class ClientConnection : public std::enable_shared_from_this<ClientConnection> {
 public:
  // `owner` outlives it, or calls close() first.
  ClientConnection(EventLoop& loop, const HttpClientOptions& options, ClientConnectionOwner& owner,
                   HttpAddress address);
  ~ClientConnection();

  // Connects and sends `call`. Reports a failure later, never from inside.
  void open(std::shared_ptr<ClientCall> call);
  // Sends `call` on this idle connection.
  void reuse(std::shared_ptr<ClientCall> call);
  // On a connection that has changed to another protocol: at the end of the loop's turn.
  void send(std::string_view bytes);
  // Lets go of everything without a report. `reset`: tell the server at once.
  void close(bool reset);

  const HttpAddress& address() const { return address_; }

 private:
  enum class Phase { kResolving, kConnecting, kHandshake, kBusy, kIdle, kUpgraded, kClosed };

  void connect_to_next();
  void on_connected();
  void shake_hands();
  void prepare(std::shared_ptr<ClientCall> call);
  void begin_call();
  void send_more();
  void flush();
  void on_readable();
  void on_unasked_bytes();
  void on_writable();
  void on_deadline();
  void consume(std::string_view input);
  bool deliver(ResponseParser::Event event);
  void on_end_of_stream(int error_number);
  void finish_call(bool input_left);
  void lose(Error failure);
  void fail(Error failure);
  void move_deadline();
  bool server_may_have_acted() const;

  EventLoop& loop_;
  const HttpClientOptions& options_;
  ClientConnectionOwner& owner_;
  const HttpAddress address_;
  Phase phase_ = Phase::kResolving;
  std::vector<SocketAddress> candidates_;  // not tried yet, in reverse order
  StreamSocket socket_;
  FdWatch watch_;
  DeadlineTimer timer_;
  std::shared_ptr<ClientCall> call_;
  std::optional<ResponseParser> parser_;
  std::size_t sent_ = 0;  // of call_->wire, or of out_
  std::string out_;       // kUpgraded: to be written, from sent_ on
  bool flush_scheduled_ = false;
  bool request_begun_ = false;  // a byte of it has been sent
  bool used_before_ = false;
  bool awaiting_acknowledgement_ = false;
  std::uint64_t acknowledged_before_ = 0;
  Error last_failure_;
};

}  // namespace pd::net
