// The thread that owns the KV transport: runs what others post to it, moves bytes, calls back.
// Everything about the transport happens here and nowhere else.
#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "base/bounded_queue.h"
#include "transfer/kv_transport.h"

namespace pd::worker {

class TransferThread {
 public:
  explicit TransferThread(std::unique_ptr<transfer::KvTransport> transport);
  ~TransferThread();  // work that was posted and has not run is dropped

  void run();  // starts the thread
  // From any thread; runs on the transfer thread, in order. False: too much is waiting or the
  // thread is ending.
  bool post(std::function<void(transfer::KvTransport&)> work);

  // Of the transport before run(); its address never changes.
  const transfer::PeerAddress& address() const { return address_; }
  transfer::KvTransport& before_run() { return *transport_; }

 private:
  void loop(const std::stop_token& stop);

  std::unique_ptr<transfer::KvTransport> transport_;
  transfer::PeerAddress address_;
  BoundedQueue<std::function<void(transfer::KvTransport&)>> inbox_;
  std::jthread thread_;
};

}  // namespace pd::worker
