#include "net/tls.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <ctime>
#include <limits>
#include <string>
#include <vector>

namespace pd::net {
namespace {

// The only protocol spoken inside, as ALPN names it.
constexpr unsigned char kHttp11[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Certificate = std::unique_ptr<X509, Free>;
using Key = std::unique_ptr<EVP_PKEY, Free>;

std::string openssl_reason() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  const char* reason = code != 0 ? ERR_reason_error_string(code) : nullptr;
  return reason != nullptr ? reason : "unknown";
}

std::unexpected<Error> invalid(std::string message) {
  return error(ErrorCode::kInvalidArgument, std::move(message));
}

std::unique_ptr<BIO, Free> reader_of(std::string_view pem) {
  if (pem.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) pem = {};
  return std::unique_ptr<BIO, Free>(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

std::vector<Certificate> read_certificates(std::string_view pem) {
  ERR_clear_error();
  const auto reader = reader_of(pem);
  std::vector<Certificate> out;
  while (reader != nullptr) {
    Certificate next(PEM_read_bio_X509(reader.get(), nullptr, nullptr, nullptr));
    if (next == nullptr) break;
    out.push_back(std::move(next));
  }
  return out;  // the reason why there is no further one stays with OpenSSL
}

// What is left in OpenSSL's queue after the last certificate: nullptr at the text's proper end.
bool ended_in_order() {
  const unsigned long code = ERR_peek_last_error();
  return ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
}

// An encrypted key would make OpenSSL ask on the terminal.
int no_passphrase(char*, int, int, void*) { return -1; }

std::int64_t unix_seconds(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return 0;
  return ::timegm(&parts);
}

// A client that offers protocols must offer ours; one that offers none is taken at its word.
int choose_http11(SSL*, const unsigned char** out, unsigned char* length,
                  const unsigned char* offered, unsigned int offered_length, void*) {
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, length, kHttp11, sizeof kHttp11, offered, offered_length) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

Result<SSL_CTX*> make_context(const SSL_METHOD* method) {
  SSL_CTX* context = SSL_CTX_new(method);
  if (context == nullptr) {
    return error(ErrorCode::kInternal,
                 fmt::format("OpenSSL gives no context: {}", openssl_reason()));
  }
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  // Without renegotiation no write ever waits for a read (StreamSocket relies on it).
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // Streams are mostly idle: 34 KB of buffers each would be most of what a connection takes.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  return context;
}

}  // namespace

Result<std::shared_ptr<const TlsServerContext>> TlsServerContext::create(
    std::string_view certificate_chain, std::string_view key_text) {
  const auto chain = read_certificates(certificate_chain);
  if (chain.empty()) return invalid("the certificate file has no certificate in PEM form");
  if (!ended_in_order()) {
    return invalid(fmt::format("certificate {} of the certificate file cannot be read: {}",
                               chain.size() + 1, openssl_reason()));
  }
  ERR_clear_error();
  const auto reader = reader_of(key_text);
  const Key key(PEM_read_bio_PrivateKey(reader.get(), nullptr, no_passphrase, nullptr));
  if (key == nullptr) {
    return invalid(fmt::format("the key file has no key in PEM form, or one with a passphrase: {}",
                               openssl_reason()));
  }
  auto made = make_context(TLS_server_method());
  if (!made) return std::unexpected(made.error());
  std::shared_ptr<TlsServerContext> context(new TlsServerContext(*made));
  SSL_CTX* raw = context->raw_;
  if (SSL_CTX_use_certificate(raw, chain.front().get()) != 1) {
    return invalid(fmt::format("OpenSSL refuses the certificate: {}", openssl_reason()));
  }
  for (std::size_t i = 1; i < chain.size(); ++i) SSL_CTX_add1_chain_cert(raw, chain[i].get());
  if (SSL_CTX_use_PrivateKey(raw, key.get()) != 1 || SSL_CTX_check_private_key(raw) != 1) {
    return invalid(fmt::format("the key does not belong to the certificate: {}", openssl_reason()));
  }
  // A connection that ends without a farewell is as good as one that ends with it: HTTP's own
  // framing says whether a message is whole.
  SSL_CTX_set_options(raw, SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_alpn_select_cb(raw, choose_http11, nullptr);
  context->not_after_ = unix_seconds(X509_get0_notAfter(chain.front().get()));
  return context;
}

TlsServerContext::~TlsServerContext() { SSL_CTX_free(raw_); }

Result<std::shared_ptr<const TlsClientContext>> TlsClientContext::unchecked() {
  auto made = make_context(TLS_client_method());
  if (!made) return std::unexpected(made.error());
  std::shared_ptr<TlsClientContext> context(new TlsClientContext(*made));
  SSL_CTX_set_alpn_protos(*made, kHttp11, sizeof kHttp11);
  context->checks_server_ = false;
  return context;
}

Result<std::shared_ptr<const TlsClientContext>> TlsClientContext::create() {
  auto made = unchecked();
  if (!made) return made;
  auto context = std::const_pointer_cast<TlsClientContext>(*made);
  context->checks_server_ = true;
  SSL_CTX_set_verify(context->raw_, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_default_verify_paths(context->raw_);
  return context;
}

Result<std::shared_ptr<const TlsClientContext>> TlsClientContext::trusting(
    std::string_view certificates) {
  const auto anchors = read_certificates(certificates);
  ERR_clear_error();
  if (anchors.empty()) return invalid("the file of trusted certificates has none in PEM form");
  auto made = unchecked();
  if (!made) return made;
  auto context = std::const_pointer_cast<TlsClientContext>(*made);
  context->checks_server_ = true;
  SSL_CTX_set_verify(context->raw_, SSL_VERIFY_PEER, nullptr);
  X509_STORE* store = SSL_CTX_get_cert_store(context->raw_);
  // A server's own certificate may be named too, not only the authority that signed it.
  X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
  for (const Certificate& anchor : anchors) X509_STORE_add_cert(store, anchor.get());
  return context;
}

TlsClientContext::~TlsClientContext() { SSL_CTX_free(raw_); }

}  // namespace pd::net
