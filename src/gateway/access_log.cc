#include "gateway/access_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "base/log.h"

namespace pd::gateway {
namespace {

constexpr std::size_t kQueueMax = 1 << 16;
constexpr std::size_t kBatchBytes = 64 * 1024;
constexpr Duration kLostLogGap = std::chrono::seconds(10);
constexpr Duration kLastWrites = std::chrono::seconds(2);
constexpr Duration kThreadEnds = std::chrono::milliseconds(500);  // once it has no time left

// Neither waits for the reader of a pipe.
UniqueFd open_for_appending(const std::filesystem::path& path) {
  return UniqueFd(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0640));
}

std::size_t lines_in(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count(text, '\n'));
}

int milliseconds_until(Time when) {
  const Duration left = std::max(when - SteadyTime::now(), Duration{});
  return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count());
}

}  // namespace

Result<std::unique_ptr<AccessLog>> AccessLog::open(std::filesystem::path path, Metrics& metrics) {
  const auto failed = [&path] {
    return error(ErrorCode::kUnavailable,
                 fmt::format("[gateway] access_log: {}: cannot append: {}", path.string(),
                             errno == ENXIO ? "nobody reads this pipe" : std::strerror(errno)));
  };
  UniqueFd file = open_for_appending(path);
  if (!file) return failed();
  UniqueFd ending(::eventfd(0, EFD_CLOEXEC));
  if (!ending) return failed();
  return std::unique_ptr<AccessLog>(
      new AccessLog(std::move(path), std::move(file), std::move(ending), metrics));
}

AccessLog::AccessLog(std::filesystem::path path, UniqueFd file, UniqueFd ending, Metrics& metrics)
    : path_(std::move(path)),
      file_(std::move(file)),
      ending_(std::move(ending)),
      lost_(metrics.counter("pdserve_access_log_lost_total",
                            "lines of the access log that could not be written")),
      queue_(kQueueMax),
      thread_([this] { run(); }) {}

AccessLog::~AccessLog() { end(); }

void AccessLog::end() {
  if (queue_.closed()) return;
  end_by_ = SteadyTime::now() + kLastWrites;
  queue_.close();
  const std::uint64_t one = 1;
  (void)!::write(ending_.get(), &one, sizeof one);
}

bool AccessLog::close() {
  end();
  return written_.try_acquire_for(kLastWrites + kThreadEnds);
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
  written_.release();
}

void AccessLog::append(std::string_view lines) {
  reopen_if_moved();
  if (inside_line_ && !put("\n").empty()) return lose(lines);
  inside_line_ = false;
  const std::string_view rest = put(lines);
  if (rest.empty()) return;
  const std::string_view written = lines.substr(0, lines.size() - rest.size());
  inside_line_ = !written.empty() && !written.ends_with('\n');
  lose(rest);
}

// Those that errno says the file does not take; of the first a part may be in it.
void AccessLog::lose(std::string_view lines) {
  const int why = errno;
  lost_.add(static_cast<double>(lines_in(lines)));
  const Time now = SteadyTime::now();
  if (told_ != Time{} && now - told_ < kLostLogGap) return;
  told_ = now;
  log::warn("[gateway] access_log: {}: {} ({} lines lost so far)", path_.string(),
            why == ETIMEDOUT ? "its reader has stalled" : std::strerror(why), lost_.value());
}

// What could not be written; errno says why.
std::string_view AccessLog::put(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(file_.get(), bytes.data(), bytes.size());
    if (n > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(n));
    } else if (n == 0 || (errno != EINTR && !(errno == EAGAIN && wait_for_room()))) {
      break;
    }
  }
  return bytes;
}

// Until the file takes more; false, with errno: it does not before the end.
bool AccessLog::wait_for_room() const {
  const Time by = end_by_;
  const bool ending = by != Time::max();
  pollfd watched[] = {{file_.get(), POLLOUT, 0}, {ending_.get(), POLLIN, 0}};
  const int ready = ::poll(watched, ending ? 1 : 2, ending ? milliseconds_until(by) : -1);
  if (ready == 0) errno = ETIMEDOUT;
  return ready > 0 || errno == EINTR;
}

void AccessLog::reopen_if_moved() {
  struct stat named{}, open{};
  const bool same = ::stat(path_.c_str(), &named) == 0 && ::fstat(file_.get(), &open) == 0 &&
                    named.st_dev == open.st_dev && named.st_ino == open.st_ino;
  if (same) return;
  UniqueFd file = open_for_appending(path_);
  if (!file) return;
  file_ = std::move(file);
  inside_line_ = false;
}

}  // namespace pd::gateway
