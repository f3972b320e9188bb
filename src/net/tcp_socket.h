// System calls on TCP sockets: non-blocking, close-on-exec, TCP_NODELAY. Internal to net.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "base/unique_fd.h"

namespace pd::net {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  std::string text() const;  // "127.0.0.1:4711", "[::1]:4711"
};

// nullopt: not a numeric IPv4 or IPv6 address (a name, to be resolved).
std::optional<SocketAddress> numeric_address(const std::string& host, std::uint16_t port);

// Blocks for as long as the name's servers take. The error's message is the resolver's.
Result<std::vector<SocketAddress>> addresses_of(const std::string& host, std::uint16_t port);

enum class IoOutcome { kDone, kWouldBlock, kEnd, kError };
struct IoResult {
  IoOutcome outcome = IoOutcome::kDone;
  std::size_t bytes = 0;
  int error_number = 0;  // kError
};
IoResult receive(int fd, std::span<char> into);     // kEnd: the peer sends no more
IoResult transmit(int fd, std::string_view bytes);  // never raises SIGPIPE

// Listens on host:port (0: the kernel chooses) with so many sockets, between which the kernel
// spreads connections (SO_REUSEPORT). Names who has a port in use where the system tells.
Result<std::vector<UniqueFd>> listen_on(const std::string& host, std::uint16_t port,
                                        int sockets = 1);
Result<std::uint16_t> local_port(int fd);

enum class AcceptOutcome { kAccepted, kNone, kNoDescriptor, kRetry };
struct AcceptResult {
  AcceptOutcome outcome = AcceptOutcome::kNone;
  UniqueFd socket;
  SocketAddress peer;
};
AcceptResult accept_from(int listener);

// Begins a connection; it stands (or has failed: connect_error) when the socket is writable.
Result<UniqueFd> connect_to(const SocketAddress& address);
int connect_error(int fd);  // errno value, 0: connected

// How soon the system finds that the peer's machine has vanished: bytes unacknowledged for
// `unacknowledged_max`, or that long without an answer to probes while nothing is sent. The
// connection then ends with an error.
void watch_peer(int fd, Duration unacknowledged_max);

void shut_down_writing(int fd);
// The next close() drops what is unsent and resets the connection instead of ending it in order.
void reset_on_close(int fd);
// Bytes that the peer's system has acknowledged over the connection's life; 0 where unknown.
std::uint64_t bytes_acknowledged(int fd);

}  // namespace pd::net
