// A connected socket, plain or under TLS: the same calls and outcomes either way. Loop thread only.
// Internal to net.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "net/tcp_socket.h"
#include "net/tls.h"

struct ssl_st;

namespace pd::net {

// One connection with much to read must not keep the others waiting.
inline constexpr int kReadsPerWake = 8;

class StreamSocket {
 public:
  StreamSocket() = default;  // not connected
  explicit StreamSocket(UniqueFd fd) : fd_(std::move(fd)) {}
  StreamSocket(StreamSocket&&) noexcept = default;
  StreamSocket& operator=(StreamSocket&&) noexcept = default;
  ~StreamSocket();

  // From here on the bytes are TLS. handshake() comes before any other byte.
  Status begin_tls(std::shared_ptr<const TlsServerContext> context);
  // `host`: the server's name, which its certificate must have if the context checks it.
  Status begin_tls(std::shared_ptr<const TlsClientContext> context, const std::string& host);

  enum class Handshake { kDone, kWaitsToRead, kWaitsToWrite, kPlainHttp, kFailed };
  // To be called again when the socket is ready as it says. kPlainHttp: the peer speaks HTTP
  // without TLS; from here on so do we. kFailed: failure() says why.
  Handshake handshake();
  const std::string& failure() const { return failure_; }

  IoResult receive(std::span<char> into);
  IoResult transmit(std::string_view bytes);
  // After receive() gave kWouldBlock: it waits for the socket to be writable, not readable.
  bool receive_waits_to_write() const { return receive_waits_to_write_; }

  void end_writing();     // the peer sees the end of our bytes; its own can still be read
  void close_in_order();  // says farewell, if TLS and possible
  void close_by_reset();
  int fd() const { return fd_.get(); }
  explicit operator bool() const { return static_cast<bool>(fd_); }

 private:
  struct Free {
    void operator()(ssl_st* ssl) const;
  };
  Status attach(ssl_st* ssl);
  IoResult outcome_of(int returned);
  void say_farewell();

  UniqueFd fd_;
  std::unique_ptr<ssl_st, Free> ssl_;  // refers to its context; null: plain
  bool established_ = false;
  bool receive_waits_to_write_ = false;
  std::string failure_;
};

}  // namespace pd::net
