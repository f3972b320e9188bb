// Lines appended to a file by a thread of its own: a slow or full disk never holds up a request,
// and a pipe whose reader stalls not the end either. What cannot be written in time is counted, not
// waited for. A file that was moved away (logrotate) is made anew.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <semaphore>
#include <string>
#include <string_view>
#include <thread>

#include "base/bounded_queue.h"
#include "base/metrics.h"
#include "base/result.h"
#include "base/time.h"
#include "base/unique_fd.h"

namespace pd::gateway {

class AccessLog {
 public:
  // Errors name the path and why it cannot be opened for appending; a pipe needs a reader.
  static Result<std::unique_ptr<AccessLog>> open(std::filesystem::path path, Metrics& metrics);
  ~AccessLog();  // as close()

  void write(std::string line);  // without its end; any thread
  // Writes what was handed over, for two seconds at most; what is left is lost, as is what comes
  // afterwards. False: the system keeps the thread inside a write (a disk that hangs), and
  // destruction would wait for it. Once
  bool close();

 private:
  AccessLog(std::filesystem::path path, UniqueFd file, UniqueFd ending, Metrics& metrics);
  void end();
  void run();
  void append(std::string_view lines);
  std::string_view put(std::string_view bytes);
  void lose(std::string_view lines);
  bool wait_for_room() const;
  void reopen_if_moved();

  std::filesystem::path path_;
  UniqueFd file_;
  const UniqueFd ending_;  // readable from end() on
  std::atomic<Time> end_by_{Time::max()};
  std::binary_semaphore written_{0};
  Counter lost_;
  BoundedQueue<std::string> queue_;
  Time told_{};               // when the log last heard of lost lines
  bool inside_line_ = false;  // the file ends in a line of which a part is missing
  std::jthread thread_;
};

}  // namespace pd::gateway
