#include "gateway/access_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"

namespace pd::gateway {
namespace {

constexpr std::size_t kQueueMax = 1 << 16;
constexpr std::size_t kBatchBytes = 64 * 1024;

UniqueFd open_for_appending(const std::filesystem::path& path) {
  return UniqueFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
}

}  // namespace

Result<std::unique_ptr<AccessLog>> AccessLog::open(std::filesystem::path path, Metrics& metrics) {
  UniqueFd file = open_for_appending(path);
  if (!file) {
    return error(ErrorCode::kUnavailable, fmt::format("[gateway] access_log: {}: cannot append: {}",
                                                      path.string(), std::strerror(errno)));
  }
  return std::unique_ptr<AccessLog>(new AccessLog(std::move(path), std::move(file), metrics));
}

AccessLog::AccessLog(std::filesystem::path path, UniqueFd file, Metrics& metrics)
    : path_(std::move(path)),
      file_(std::move(file)),
      lost_(metrics.counter("pdserve_access_log_lost_total",
                            "lines of the access log that could not be written")),
      queue_(kQueueMax),
      thread_([this] { run(); }) {}

AccessLog::~AccessLog() { queue_.close(); }

void AccessLog::close() {
  queue_.close();
  thread_.join();
}

void AccessLog::write(std::string line) {
  line += '\n';
  if (!queue_.try_push(std::move(line))) lost_.add();
}

void AccessLog::run() {
  while (auto line = queue_.pop()) {
    std::string batch = std::move(*line);
    while (batch.size() < kBatchBytes) {
      auto more = queue_.try_pop();
      if (!more) break;
      batch += *more;
    }
    append(batch);
  }
}

void AccessLog::append(const std::string& lines) {
  reopen_if_moved();
  std::string_view rest = lines;
  while (!rest.empty()) {
    const ssize_t n = ::write(file_.get(), rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      log::warn("[gateway] access_log: {}: {}", path_.string(), std::strerror(errno));
      lost_.add(static_cast<double>(std::count(rest.begin(), rest.end(), '\n')));
      return;
    }
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
}

void AccessLog::reopen_if_moved() {
  struct stat named{}, open{};
  const bool same = ::stat(path_.c_str(), &named) == 0 && ::fstat(file_.get(), &open) == 0 &&
                    named.st_dev == open.st_dev && named.st_ino == open.st_ino;
  if (same) return;
  if (UniqueFd file = open_for_appending(path_)) file_ = std::move(file);
}

}  // namespace pd::gateway
