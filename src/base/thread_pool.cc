#include "base/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/check.h"

namespace pd {

// A generation number announces each job. Workers spin briefly before they sleep: an engine step
// has hundreds of short operators in a row, and a futex round trip costs as much as the smallest of
// them.
struct ThreadPool::State {
  static constexpr int kSpins = 2000;  // about 20 us, the gap between two operators of one step

  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<std::uint64_t> generation{0};
  std::atomic<bool> stopping{false};
  const std::function<void(std::size_t)>* body = nullptr;
  std::size_t count = 0;
  std::atomic<std::size_t> next{0};
  std::atomic<int> busy{0};
  std::vector<std::jthread> workers;

  void work() {
    while (true) {
      const std::size_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= count) return;
      (*body)(i);
    }
  }

  void loop() {
    std::uint64_t seen = 0;
    while (true) {
      for (int spin = 0; spin < kSpins && generation.load(std::memory_order_acquire) == seen;
           ++spin) {
        __builtin_ia32_pause();
      }
      if (generation.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen; });
      }
      seen = generation.load(std::memory_order_acquire);
      if (stopping.load(std::memory_order_acquire)) return;
      work();
      busy.fetch_sub(1, std::memory_order_release);
    }
  }

  void announce() {
    {
      std::lock_guard lock(mutex);
      generation.fetch_add(1, std::memory_order_release);
    }
    wake.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  CHECK(threads >= 1);
  for (int i = 1; i < threads; ++i)
    state_->workers.emplace_back([state = state_.get()] { state->loop(); });
}

ThreadPool::~ThreadPool() {
  state_->stopping.store(true, std::memory_order_release);
  state_->announce();
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::parallel_for(std::size_t count, const std::function<void(std::size_t)>& body) {
  if (count == 0) return;
  if (state_->workers.empty() || count == 1) {
    for (std::size_t i = 0; i < count; ++i) body(i);
    return;
  }
  state_->body = &body;
  state_->count = count;
  state_->next.store(0, std::memory_order_relaxed);
  state_->busy.store(static_cast<int>(state_->workers.size()), std::memory_order_relaxed);
  state_->announce();
  state_->work();
  // Every worker passes once per generation, so none can still read `body` after this. Yields after
  // a while: with more threads than free cores the last worker needs ours.
  for (int spin = 0; state_->busy.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < State::kSpins) {
      __builtin_ia32_pause();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace pd
