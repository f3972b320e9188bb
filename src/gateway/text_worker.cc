#include "gateway/text_worker.h"

#include <utility>

namespace pd::gateway {

TextWorker::~TextWorker() {
  give_up();
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
}

void TextWorker::run() {
  thread_ = std::jthread([this] { work_through(); });
}

void TextWorker::work_through() {
  while (auto text = next()) {
    working_ = true;
    const Time begun = SteadyTime::now();
    text->work(!ending_ && *text->wanted);
    const Duration took = SteadyTime::now() - begun;
    working_ = false;
    const std::lock_guard lock(mutex_);
    line_.ended(*text, took);
  }
}

std::optional<WaitingText> TextWorker::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return closed_ || !line_.empty(); });
  return line_.next();
}

bool TextWorker::submit(policy::TenantId tenant, Bytes bytes,
                        std::shared_ptr<const std::atomic<bool>> wanted,
                        std::function<void(bool)> work) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || !line_.add({tenant, bytes, std::move(wanted), std::move(work)})) return false;
  }
  changed_.notify_one();
  return true;
}

}  // namespace pd::gateway
