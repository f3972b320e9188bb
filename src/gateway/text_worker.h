// One thread that works through a TextLine: fairly between tenants, and bounded in what waits.
// submit() says false when that is too much. What nobody waits for any more is not begun.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "gateway/text_line.h"

namespace pd::gateway {

class TextWorker {
 public:
  explicit TextWorker(const TextLine::Limits& limits) : line_(limits) {}
  ~TextWorker();
  void run();  // starts the thread

  // `work(false)`: it was given up, by give_up() or because `wanted` is false by now; it must only
  // say so. Any thread.
  bool submit(policy::TenantId tenant, Bytes bytes, std::shared_ptr<const std::atomic<bool>> wanted,
              std::function<void(bool go)> work);
  // From now on everything that waits is given up. Any thread.
  void give_up() { ending_ = true; }
  bool working() const { return working_; }  // on something that was begun. Any thread

 private:
  void work_through();
  std::optional<WaitingText> next();  // waits for one; nullopt: closed, and nothing is left

  // Which text is next depends on all that wait and on what was read before, which a queue between
  // the two threads would not know. Held for a few steps in maps, never while a text is read.
  std::mutex mutex_;
  std::condition_variable changed_;
  TextLine line_;
  bool closed_ = false;
  std::atomic<bool> ending_{false}, working_{false};
  std::jthread thread_;
};

}  // namespace pd::gateway
