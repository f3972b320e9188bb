// What TLS connections of one side share: certificate and key, or whom to trust. TLS 1.2 and 1.3
// by OpenSSL. Immutable; any thread may hold one, connections keep theirs to their end, so that a
// renewed certificate is a new context for those that come later.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/result.h"

struct ssl_ctx_st;

namespace pd::net {

class TlsServerContext {
 public:
  // PEM texts: the server's certificate followed by its intermediates, and its key, unencrypted.
  // kInvalidArgument says which of the two is wrong and why.
  static Result<std::shared_ptr<const TlsServerContext>> create(std::string_view certificate_chain,
                                                                std::string_view key);
  ~TlsServerContext();

  // When the certificate ends, in Unix seconds.
  std::int64_t not_after() const { return not_after_; }
  ssl_ctx_st* raw() const { return raw_; }  // net only

 private:
  explicit TlsServerContext(ssl_ctx_st* raw) : raw_(raw) {}
  ssl_ctx_st* raw_;
  std::int64_t not_after_ = 0;
};

class TlsClientContext {
 public:
  // Trusts the system's authorities and checks the server's name.
  static Result<std::shared_ptr<const TlsClientContext>> create();
  // Trusts these certificates (PEM, authorities or servers' own) instead, and checks the name.
  static Result<std::shared_ptr<const TlsClientContext>> trusting(std::string_view certificates);
  // Encrypts and believes whoever answers.
  static Result<std::shared_ptr<const TlsClientContext>> unchecked();
  ~TlsClientContext();

  bool checks_server() const { return checks_server_; }
  ssl_ctx_st* raw() const { return raw_; }  // net only

 private:
  explicit TlsClientContext(ssl_ctx_st* raw) : raw_(raw) {}
  ssl_ctx_st* raw_;
  bool checks_server_ = true;
};

}  // namespace pd::net
