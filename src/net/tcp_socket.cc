#include "net/tcp_socket.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/tcp.h>  // not netinet/tcp.h: glibc's tcp_info ends before tcpi_bytes_acked
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>

#include "net/port_owner.h"

namespace pd::net {
namespace {

constexpr int kBacklog = 4096;  // the kernel caps it at net.core.somaxconn

void set_option(int fd, int level, int name, int value) {
  // Cannot fail on a TCP socket that is open; a wish, not a condition, anyhow.
  static_cast<void>(::setsockopt(fd, level, name, &value, sizeof value));
}

// sin_port and sin6_port lie at the same place, behind the family.
void set_port(SocketAddress& address, std::uint16_t port) {
  reinterpret_cast<sockaddr_in*>(&address.storage)->sin_port = htons(port);
}

struct AddressListFree {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};

Result<SocketAddress> address_to_listen_on(const std::string& host, std::uint16_t port) {
  if (auto numeric = numeric_address(host, port)) return *numeric;
  const auto found = addresses_of(host, port);
  if (found) return found->front();
  return error(ErrorCode::kInvalidArgument,
               fmt::format("cannot listen on host '{}': {}; give an IP address of this machine",
                           host, found.error().message));
}

std::unexpected<Error> listen_error(const SocketAddress& address, std::uint16_t port, int number) {
  const std::string where = address.text();
  if (number == EADDRINUSE) {
    const auto owner = describe_port_owner(port);
    return error(ErrorCode::kAlreadyExists,
                 fmt::format("cannot listen on {}: the port is in use{}; stop it or choose another "
                             "port",
                             where, owner ? fmt::format(" by {}", *owner) : ""));
  }
  if (number == EADDRNOTAVAIL) {
    return error(
        ErrorCode::kInvalidArgument,
        fmt::format("cannot listen on {}: no interface of this machine has this address", where));
  }
  if (number == EACCES) {
    return error(ErrorCode::kUnauthorized,
                 fmt::format("cannot listen on {}: ports below 1024 need privileges; choose a "
                             "higher one",
                             where));
  }
  return error(ErrorCode::kUnavailable,
               fmt::format("cannot listen on {}: {}", where, std::strerror(number)));
}

Result<UniqueFd> listen_once(const SocketAddress& address, std::uint16_t port, bool shared) {
  UniqueFd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return listen_error(address, port, errno);
  // A port whose last connections are still in TIME_WAIT can be listened on again at once.
  set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (shared) set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1);
  const auto* raw = reinterpret_cast<const sockaddr*>(&address.storage);
  if (::bind(fd.get(), raw, address.length) != 0 || ::listen(fd.get(), kBacklog) != 0) {
    return listen_error(address, port, errno);
  }
  return fd;
}

}  // namespace

std::string SocketAddress::text() const {
  char host[INET6_ADDRSTRLEN] = "?";
  if (storage.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&storage);
    ::inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
    return fmt::format("{}:{}", host, ntohs(v4->sin_port));
  }
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&storage);
  ::inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
  return fmt::format("[{}]:{}", host, ntohs(v6->sin6_port));
}

std::optional<SocketAddress> numeric_address(const std::string& host, std::uint16_t port) {
  SocketAddress address;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.length = sizeof(sockaddr_in);
    return address;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.length = sizeof(sockaddr_in6);
    return address;
  }
  return std::nullopt;
}

Result<std::vector<SocketAddress>> addresses_of(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failure = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  const std::unique_ptr<addrinfo, AddressListFree> list(found);
  std::vector<SocketAddress> out;
  for (const addrinfo* entry = found; failure == 0 && entry != nullptr; entry = entry->ai_next) {
    SocketAddress& address = out.emplace_back();
    address.length = entry->ai_addrlen;
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
  }
  if (!out.empty()) return out;
  return error(ErrorCode::kUnavailable, failure != 0 ? ::gai_strerror(failure) : "no address");
}

IoResult receive(int fd, std::span<char> into) {
  while (true) {
    const ssize_t got = ::recv(fd, into.data(), into.size(), 0);
    if (got > 0) return {.bytes = static_cast<std::size_t>(got)};
    if (got == 0) return {.outcome = IoOutcome::kEnd};
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return {.outcome = IoOutcome::kWouldBlock};
    return {.outcome = IoOutcome::kError, .error_number = errno};
  }
}

IoResult transmit(int fd, std::string_view bytes) {
  while (true) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) return {.bytes = static_cast<std::size_t>(sent)};
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return {.outcome = IoOutcome::kWouldBlock};
    return {.outcome = IoOutcome::kError, .error_number = errno};
  }
}

Result<std::vector<UniqueFd>> listen_on(const std::string& host, std::uint16_t port, int sockets) {
  auto address = address_to_listen_on(host, port);
  if (!address) return std::unexpected(address.error());
  std::vector<UniqueFd> out;
  // With several, one that does not share comes first: a port that another process has in use would
  // be shared with it in silence.
  if (sockets > 1) {
    auto alone = listen_once(*address, port, /*shared=*/false);
    if (!alone) return std::unexpected(alone.error());
    const auto chosen = local_port(alone->get());
    if (!chosen) return std::unexpected(chosen.error());
    port = *chosen;
    set_port(*address, port);
  }
  for (int i = 0; i < sockets; ++i) {
    auto fd = listen_once(*address, port, /*shared=*/sockets > 1);
    if (!fd) return std::unexpected(fd.error());
    out.push_back(std::move(*fd));
  }
  return out;
}

Result<std::uint16_t> local_port(int fd) {
  SocketAddress address;
  address.length = sizeof address.storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) {
    return error(ErrorCode::kUnavailable,
                 fmt::format("cannot read a socket's own port: {}", std::strerror(errno)));
  }
  return ntohs(reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port);
}

AcceptResult accept_from(int listener) {
  AcceptResult result;
  result.peer.length = sizeof result.peer.storage;
  result.socket.reset(::accept4(listener, reinterpret_cast<sockaddr*>(&result.peer.storage),
                                &result.peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (result.socket) {
    set_option(result.socket.get(), IPPROTO_TCP, TCP_NODELAY, 1);
    result.outcome = AcceptOutcome::kAccepted;
  } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
    result.outcome = AcceptOutcome::kNone;
  } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
    result.outcome = AcceptOutcome::kNoDescriptor;
  } else {
    result.outcome = AcceptOutcome::kRetry;  // that one connection failed, the next may not
  }
  return result;
}

Result<UniqueFd> connect_to(const SocketAddress& address) {
  UniqueFd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) {
    const bool ours = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    return error(
        ours ? ErrorCode::kNoCapacity : ErrorCode::kUnavailable,
        fmt::format("cannot make a socket for {}: {}", address.text(), std::strerror(errno)));
  }
  set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  const auto* raw = reinterpret_cast<const sockaddr*>(&address.storage);
  if (::connect(fd.get(), raw, address.length) != 0 && errno != EINPROGRESS) {
    return error(ErrorCode::kUnavailable,
                 fmt::format("cannot connect to {}: {}", address.text(), std::strerror(errno)));
  }
  return fd;
}

int connect_error(int fd) {
  int number = 0;
  socklen_t length = sizeof number;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &length) != 0) return errno;
  return number;
}

void watch_peer(int fd, Duration unacknowledged_max) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(unacknowledged_max).count();
  const int limit_ms = static_cast<int>(std::clamp<std::int64_t>(ms, 1, 3'600'000));
  const int probe_gap_s = std::max(limit_ms / 4000, 1);  // the limit passes after three unanswered
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, limit_ms);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, probe_gap_s);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, probe_gap_s);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

void shut_down_writing(int fd) { static_cast<void>(::shutdown(fd, SHUT_WR)); }

void reset_on_close(int fd) {
  const linger option{.l_onoff = 1, .l_linger = 0};
  static_cast<void>(::setsockopt(fd, SOL_SOCKET, SO_LINGER, &option, sizeof option));
}

std::uint64_t bytes_acknowledged(int fd) {
  tcp_info info{};
  socklen_t length = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return 0;
  if (length < offsetof(tcp_info, tcpi_bytes_acked) + sizeof info.tcpi_bytes_acked) return 0;
  return info.tcpi_bytes_acked;
}

}  // namespace pd::net
