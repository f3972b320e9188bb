#include "gateway/certificate_files.h"

#include <fmt/format.h>

#include <ctime>
#include <utility>

#include "base/log.h"
#include "base/mapped_file.h"

namespace pd::gateway {
namespace {

constexpr std::size_t kFileMax = 1 << 20;

std::string date_of(std::int64_t unix_seconds) {
  const std::time_t time = unix_seconds;
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &parts)};
}

}  // namespace

CertificateFiles::CertificateFiles(CertificatePaths paths, Metrics& metrics,
                                   std::function<void(Context)> renewed)
    : paths_(std::move(paths)),
      renewed_(std::move(renewed)),
      not_after_(metrics.gauge("pdserve_tls_certificate_not_after_seconds",
                               "Unix time at which the certificate in use ends.")),
      refused_(metrics.counter("pdserve_tls_certificate_refused_total",
                               "Changes of the certificate's files that could not be used.")) {}

Result<std::unique_ptr<CertificateFiles>> CertificateFiles::open(
    net::EventLoop& loop, CertificatePaths paths, Metrics& metrics,
    std::function<void(Context)> renewed) {
  std::unique_ptr<CertificateFiles> files(
      new CertificateFiles(std::move(paths), metrics, std::move(renewed)));
  // Watched before they are read: a change in between is seen as one.
  const auto look = [raw = files.get()](const Result<std::string>&) { raw->look_again(); };
  files->certificate_file_ =
      std::make_unique<WatchedFile>(loop, files->paths_.certificate, kFileMax, look);
  files->key_file_ = std::make_unique<WatchedFile>(loop, files->paths_.key, kFileMax, look);
  auto context = files->read();
  if (!context) return std::unexpected(context.error());
  files->use(std::move(*context));
  return files;
}

Result<CertificateFiles::Context> CertificateFiles::read() const {
  const auto certificate = read_file(paths_.certificate, kFileMax);
  if (!certificate) return std::unexpected(certificate.error());
  const auto key = read_file(paths_.key, kFileMax);
  if (!key) return std::unexpected(key.error());
  auto context = net::TlsServerContext::create(*certificate, *key);
  if (context) return context;
  return error(context.error().code, fmt::format("{} with {}: {}", paths_.certificate, paths_.key,
                                                 context.error().message));
}

void CertificateFiles::use(Context context) {
  context_ = std::move(context);
  not_after_.set(static_cast<double>(context_->not_after()));
  const auto left = context_->not_after() - std::time(nullptr);
  if (left <= 0)
    log::error("certificate {}: ended on {}; clients will refuse it", paths_.certificate,
               date_of(context_->not_after()));
  else
    log::info("certificate {}: valid until {}", paths_.certificate, date_of(context_->not_after()));
}

void CertificateFiles::look_again() {
  auto context = read();
  if (!context) {
    refused_.add();
    return log::error("{}; the certificate stays as it was", context.error().message);
  }
  use(std::move(*context));
  renewed_(context_);
}

}  // namespace pd::gateway
