// The file of keys and tenants, which may be edited while the gateway serves. A large one takes
// longer to read than a request may wait: a thread of its own does it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "base/bounded_queue.h"
#include "base/result.h"
#include "gateway/watched_file.h"
#include "net/event_loop.h"
#include "protocol/access_file.h"

namespace pd::gateway {

class KeysFile {
 public:
  // On the caller's thread while it is opened, afterwards on the file's own.
  using Use = std::function<void(const protocol::AccessFile& file)>;
  // Reads it and hands it to `use`, as later each content that follows. Errors name every mistake;
  // afterwards one that has any is told in the log and changes nothing. `loop` outlives this; its
  // thread only.
  static Result<std::unique_ptr<KeysFile>> open(net::EventLoop& loop, std::string path, Use use);
  ~KeysFile();  // waits for what is being read

 private:
  KeysFile(std::string path, Use use) : path_(std::move(path)), use_(std::move(use)) {}
  void run();
  void look_again() const;

  const std::string path_;
  const Use use_;
  struct Change {};
  BoundedQueue<Change> changes_{1};  // full: what waits will read the newest content anyhow
  std::unique_ptr<WatchedFile> file_;
  std::jthread thread_;
};

}  // namespace pd::gateway
