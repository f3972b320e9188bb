// Lines appended to a file by a thread of its own: a slow or full disk never holds up a request.
// What cannot be written in time is counted, not waited for. A file that was moved away (logrotate)
// is made anew.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "base/bounded_queue.h"
#include "base/metrics.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace pd::gateway {

class AccessLog {
 public:
  // Errors name the path: it cannot be opened for appending.
  static Result<std::unique_ptr<AccessLog>> open(std::filesystem::path path, Metrics& metrics);
  ~AccessLog();  // writes what was handed over

  void write(std::string line);  // without its end; any thread
  void close();                  // writes what was handed over; what comes afterwards is lost. Once

 private:
  AccessLog(std::filesystem::path path, UniqueFd file, Metrics& metrics);
  void run();
  void append(const std::string& lines);
  void reopen_if_moved();

  std::filesystem::path path_;
  UniqueFd file_;
  Counter lost_;
  BoundedQueue<std::string> queue_;
  std::jthread thread_;
};

}  // namespace pd::gateway
