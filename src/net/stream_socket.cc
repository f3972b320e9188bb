#include "net/stream_socket.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

namespace pd::net {
namespace {

std::string reason_of(const SSL* ssl, unsigned long code, int error_number) {
  if (const long verdict = SSL_get_verify_result(ssl); verdict != X509_V_OK)
    return fmt::format("certificate refused: {}", X509_verify_cert_error_string(verdict));
  if (const char* reason = code != 0 ? ERR_reason_error_string(code) : nullptr) return reason;
  return error_number != 0 ? std::strerror(error_number) : "the peer has closed";
}

bool is_address(const std::string& host) {
  in6_addr ignored{};
  return ::inet_pton(AF_INET, host.c_str(), &ignored) == 1 ||
         ::inet_pton(AF_INET6, host.c_str(), &ignored) == 1;
}

// The socket as OpenSSL reads and writes it: by our own calls, because OpenSSL's would raise
// SIGPIPE.
int fd_of(BIO* bio) { return static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(bio))); }

int bio_result(BIO* bio, const IoResult& result, void (*wait)(BIO*), std::size_t* bytes) {
  BIO_clear_retry_flags(bio);
  *bytes = result.bytes;
  if (result.outcome == IoOutcome::kDone) return 1;
  if (result.outcome == IoOutcome::kWouldBlock) wait(bio);
  errno = result.error_number;
  return 0;
}

int bio_read(BIO* bio, char* into, std::size_t size, std::size_t* got) {
  const IoResult result = net::receive(fd_of(bio), {into, size});
  if (result.outcome == IoOutcome::kEnd) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
  return bio_result(bio, result, [](BIO* b) { BIO_set_retry_read(b); }, got);
}

int bio_write(BIO* bio, const char* bytes, std::size_t size, std::size_t* sent) {
  const IoResult result = net::transmit(fd_of(bio), {bytes, size});
  return bio_result(bio, result, [](BIO* b) { BIO_set_retry_write(b); }, sent);
}

long bio_control(BIO* bio, int command, long, void*) {
  if (command == BIO_CTRL_EOF) return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO* bio_of(int fd) {
  static BIO_METHOD* const kMethod = [] {
    BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    BIO_meth_set_read_ex(method, bio_read);
    BIO_meth_set_write_ex(method, bio_write);
    BIO_meth_set_ctrl(method, bio_control);
    return method;
  }();
  BIO* bio = BIO_new(kMethod);
  if (bio == nullptr) return nullptr;
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<std::intptr_t>(fd)));
  BIO_set_init(bio, 1);
  return bio;
}

}  // namespace

void StreamSocket::Free::operator()(ssl_st* ssl) const { SSL_free(ssl); }

StreamSocket::~StreamSocket() = default;

Status StreamSocket::attach(ssl_st* ssl) {
  ssl_.reset(ssl);
  BIO* bio = ssl != nullptr ? bio_of(fd_.get()) : nullptr;
  if (bio == nullptr) {
    ERR_clear_error();
    return error(ErrorCode::kUnavailable, "OpenSSL has no memory for another connection");
  }
  SSL_set_bio(ssl, bio, bio);  // which takes it
  return {};
}

Status StreamSocket::begin_tls(std::shared_ptr<const TlsServerContext> context) {
  if (Status attached = attach(SSL_new(context->raw())); !attached) return attached;
  SSL_set_accept_state(ssl_.get());
  return {};
}

Status StreamSocket::begin_tls(std::shared_ptr<const TlsClientContext> context,
                               const std::string& host) {
  if (Status attached = attach(SSL_new(context->raw())); !attached) return attached;
  SSL_set_connect_state(ssl_.get());
  const bool address = is_address(host);
  if (!address) SSL_set_tlsext_host_name(ssl_.get(), host.c_str());
  if (!context->checks_server()) return {};
  X509_VERIFY_PARAM* checks = SSL_get0_param(ssl_.get());
  const int set = address ? X509_VERIFY_PARAM_set1_ip_asc(checks, host.c_str())
                          : X509_VERIFY_PARAM_set1_host(checks, host.c_str(), host.size());
  if (set == 1) return {};
  return error(ErrorCode::kInvalidArgument,
               fmt::format("'{}' is no name that a certificate can have", host));
}

StreamSocket::Handshake StreamSocket::handshake() {
  ERR_clear_error();
  errno = 0;
  const int returned = SSL_do_handshake(ssl_.get());
  if (returned == 1) {
    established_ = true;
    return Handshake::kDone;
  }
  const int error_number = errno;
  const unsigned long code = ERR_peek_error();
  switch (SSL_get_error(ssl_.get(), returned)) {
    case SSL_ERROR_WANT_READ:
      return Handshake::kWaitsToRead;
    case SSL_ERROR_WANT_WRITE:
      return Handshake::kWaitsToWrite;
    default:
      break;
  }
  failure_ = reason_of(ssl_.get(), code, error_number);
  ERR_clear_error();
  if (ERR_GET_LIB(code) != ERR_LIB_SSL || ERR_GET_REASON(code) != SSL_R_HTTP_REQUEST)
    return Handshake::kFailed;
  ssl_.reset();
  return Handshake::kPlainHttp;
}

// Of an SSL_read or SSL_write that returned no bytes. Nothing more is possible on a connection that
// has failed, not even the farewell.
IoResult StreamSocket::outcome_of(int returned) {
  const int error_number = errno;
  const int what = SSL_get_error(ssl_.get(), returned);
  if (what == SSL_ERROR_WANT_READ || what == SSL_ERROR_WANT_WRITE) {
    receive_waits_to_write_ = what == SSL_ERROR_WANT_WRITE;
    return {.outcome = IoOutcome::kWouldBlock};
  }
  if (what == SSL_ERROR_ZERO_RETURN) return {.outcome = IoOutcome::kEnd};
  ERR_clear_error();
  established_ = false;
  return {.outcome = IoOutcome::kError, .error_number = error_number != 0 ? error_number : EPROTO};
}

IoResult StreamSocket::receive(std::span<char> into) {
  if (ssl_ == nullptr) return net::receive(fd_.get(), into);
  receive_waits_to_write_ = false;
  ERR_clear_error();
  errno = 0;
  std::size_t got = 0;
  const int returned = SSL_read_ex(ssl_.get(), into.data(), into.size(), &got);
  return returned == 1 ? IoResult{.bytes = got} : outcome_of(returned);
}

IoResult StreamSocket::transmit(std::string_view bytes) {
  if (ssl_ == nullptr) return net::transmit(fd_.get(), bytes);
  ERR_clear_error();
  errno = 0;
  std::size_t sent = 0;
  const int returned = SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &sent);
  return returned == 1 ? IoResult{.bytes = sent} : outcome_of(returned);
}

void StreamSocket::say_farewell() {
  if (ssl_ == nullptr || !established_) return;
  ERR_clear_error();
  static_cast<void>(SSL_shutdown(ssl_.get()));
  ERR_clear_error();
}

void StreamSocket::end_writing() {
  say_farewell();
  shut_down_writing(fd_.get());
}

void StreamSocket::close_in_order() {
  if (!fd_) return;
  say_farewell();
  ssl_.reset();
  fd_.reset();
}

void StreamSocket::close_by_reset() {
  if (!fd_) return;
  reset_on_close(fd_.get());
  ssl_.reset();
  fd_.reset();
}

}  // namespace pd::net
