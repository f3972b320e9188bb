#include "gateway/watched_file.h"

#include <sys/stat.h>

#include <utility>

#include "base/mapped_file.h"

namespace pd::gateway {
namespace {

constexpr Duration kEvery = std::chrono::seconds(1);
constexpr int kMissingMin = 3;  // looks in a row that find none: it is gone

}  // namespace

WatchedFile::WatchedFile(net::EventLoop& loop, std::filesystem::path path, std::size_t bytes_max,
                         OnChange on_change)
    : loop_(loop),
      path_(std::move(path)),
      bytes_max_(bytes_max),
      on_change_(std::move(on_change)),
      mark_(look()),
      timer_(loop.call_at(loop.now() + kEvery, [this] { check(); })) {}

WatchedFile::~WatchedFile() { loop_.cancel(timer_); }

WatchedFile::Mark WatchedFile::look() const {
  struct stat stat{};
  if (::stat(path_.c_str(), &stat) != 0) return {};
  return {stat.st_dev, stat.st_ino, stat.st_size,
          stat.st_ctim.tv_sec * 1'000'000'000 + stat.st_ctim.tv_nsec};
}

void WatchedFile::check() {
  timer_ = loop_.call_at(loop_.now() + kEvery, [this] { check(); });
  const Mark now = look();
  if (now == mark_) {
    missing_ = 0;
    return;
  }
  // An editor that replaces a file leaves none for a moment.
  if (now == Mark{} && ++missing_ < kMissingMin) return;
  missing_ = 0;
  mark_ = now;
  on_change_(read_file(path_, bytes_max_));
}

}  // namespace pd::gateway
