// The gateway's certificate and key as files that are renewed while it serves. Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/metrics.h"
#include "base/result.h"
#include "gateway/watched_file.h"
#include "net/event_loop.h"
#include "net/tls.h"

namespace pd::gateway {

struct CertificatePaths {
  std::string certificate;  // PEM, the server's first, then its intermediates; empty: no TLS
  std::string key;          // PEM
};

class CertificateFiles {
 public:
  using Context = std::shared_ptr<const net::TlsServerContext>;
  // Reads both. Errors name the file. Afterwards a change of either, once the two belong together,
  // is handed to `renewed`; until they do, and whenever they cannot be read, the old pair stays.
  static Result<std::unique_ptr<CertificateFiles>> open(net::EventLoop& loop,
                                                        CertificatePaths paths, Metrics& metrics,
                                                        std::function<void(Context)> renewed);
  const Context& context() const { return context_; }

 private:
  CertificateFiles(CertificatePaths paths, Metrics& metrics, std::function<void(Context)> renewed);
  Result<Context> read() const;
  void use(Context context);
  void look_again();

  CertificatePaths paths_;
  std::function<void(Context)> renewed_;
  Gauge not_after_;
  Counter refused_;
  Context context_;
  std::unique_ptr<WatchedFile> certificate_file_, key_file_;
};

}  // namespace pd::gateway
