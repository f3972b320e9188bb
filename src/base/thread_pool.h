// Fork-join parallelism inside one operator. One caller at a time; the caller works too.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace pd {

class ThreadPool {
 public:
  // `threads` >= 1 counts the calling thread: 1 starts no thread at all.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Calls body(i) once for every i in [0, count), in any order, on any of the threads; returns when
  // all are done. `body` must not throw and must not call back into this pool. Which thread runs an
  // i must not change what it computes: that is what keeps the engine exact with any number of
  // threads.
  void parallel_for(std::size_t count, const std::function<void(std::size_t)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pd
