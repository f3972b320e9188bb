// Blocking sockets for tests: a peer that does exactly what it is told, also what no library would.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/unique_fd.h"

namespace pd::net::testing {

inline sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

class RawSocket {
 public:
  explicit RawSocket(UniqueFd fd) : fd_(std::move(fd)) {
    // No test waits for ever: what does not come within this is a failure.
    const timeval limit{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  }
  RawSocket() : RawSocket(UniqueFd(::socket(AF_INET, SOCK_STREAM, 0))) {}
  static RawSocket to(std::uint16_t port) {
    RawSocket socket;
    socket.connect(port);
    return socket;
  }

  void connect(std::uint16_t port) {
    const sockaddr_in address = loopback(port);
    const auto* raw = reinterpret_cast<const sockaddr*>(&address);
    ASSERT_EQ(::connect(fd_.get(), raw, sizeof address), 0);
  }
  void set_receive_buffer(int bytes) {
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  }
  // False when the peer has closed.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t put = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (put <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return true;
  }
  // Reads until `mark` has come (what was read so far, with it), or the end: then all there was.
  std::string read_until(std::string_view mark) {
    std::string out;
    while (out.find(mark) == std::string::npos) {
      char c = 0;
      if (::recv(fd_.get(), &c, 1, 0) != 1) return out;
      out += c;
    }
    return out;
  }
  std::string read_to_end() {
    std::string out;
    char piece[16384];
    while (true) {
      const ssize_t got = ::recv(fd_.get(), piece, sizeof piece, 0);
      if (got <= 0) {
        reset_ = got < 0;
        return out;
      }
      out.append(piece, static_cast<std::size_t>(got));
    }
  }
  bool was_reset() const { return reset_; }  // read_to_end() ended in an error
  // From here on the system drops what arrives for this socket: no acknowledgement, no reset, as
  // behind a firewall that has forgotten the connection.
  void go_silent() {
    sock_filter drop_all = {.code = BPF_RET | BPF_K, .jt = 0, .jf = 0, .k = 0};
    const sock_fprog program = {.len = 1, .filter = &drop_all};
    ASSERT_EQ(::setsockopt(fd_.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), 0);
  }
  void end_sending() { ::shutdown(fd_.get(), SHUT_WR); }
  void close() { fd_.reset(); }
  void reset() {
    const linger option{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &option, sizeof option);
    fd_.reset();
  }
  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
  bool reset_ = false;
};

class RawListener {
 public:
  explicit RawListener(int backlog = 64) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = loopback(0);
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(fd_.get(), backlog), 0);
    socklen_t length = sizeof address;
    EXPECT_EQ(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
  }
  std::uint16_t port() const { return port_; }
  RawSocket accept() { return RawSocket(UniqueFd(::accept(fd_.get(), nullptr, nullptr))); }
  void close() { fd_.reset(); }

 private:
  UniqueFd fd_;
  std::uint16_t port_ = 0;
};

}  // namespace pd::net::testing
