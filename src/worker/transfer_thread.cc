#include "worker/transfer_thread.h"

#include <utility>

namespace pd::worker {
namespace {

// Pulls and notices under way at once are bounded by slots and batch places; this is far above
// both.
constexpr std::size_t kInboxMax = 16384;
// Time-outs inside the transport (connections, silent peers) are checked at least this often.
constexpr Duration kTick = std::chrono::milliseconds(100);

}  // namespace

TransferThread::TransferThread(std::unique_ptr<transfer::KvTransport> transport)
    : transport_(std::move(transport)), address_(transport_->address()), inbox_(kInboxMax) {}

TransferThread::~TransferThread() {
  thread_.request_stop();
  inbox_.close();
  transport_->wake();
  if (thread_.joinable()) thread_.join();
}

void TransferThread::run() {
  thread_ = std::jthread([this](const std::stop_token& stop) { loop(stop); });
}

bool TransferThread::post(std::function<void(transfer::KvTransport&)> work) {
  if (!inbox_.try_push(std::move(work))) return false;
  transport_->wake();
  return true;
}

void TransferThread::loop(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    while (auto work = inbox_.try_pop()) (*work)(*transport_);
    transport_->progress(SteadyTime::now() + kTick);
  }
}

}  // namespace pd::worker
