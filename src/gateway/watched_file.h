// Looks every second whether a file has changed, and hands over its content when it has: what may
// be edited while the gateway serves. Loop thread only.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "net/event_loop.h"

namespace pd::gateway {

class WatchedFile {
 public:
  using OnChange = std::function<void(Result<std::string> content)>;
  // Begins with what the file is now: `on_change` is called for what comes after, with an error
  // once when it stays away. `loop` outlives this.
  WatchedFile(net::EventLoop& loop, std::filesystem::path path, std::size_t bytes_max,
              OnChange on_change);
  ~WatchedFile();
  WatchedFile(const WatchedFile&) = delete;
  WatchedFile& operator=(const WatchedFile&) = delete;

 private:
  // What tells one content from another without reading it.
  struct Mark {
    std::uint64_t device = 0, inode = 0;
    std::int64_t size = -1, changed_ns = 0;
    bool operator==(const Mark&) const = default;
  };
  Mark look() const;
  void check();

  net::EventLoop& loop_;
  std::filesystem::path path_;
  std::size_t bytes_max_;
  OnChange on_change_;
  Mark mark_;        // empty: it is gone, and that has been told
  int missing_ = 0;  // looks in a row that found no file
  net::EventLoop::TimerId timer_;
};

}  // namespace pd::gateway
