// D's side of one handoff: pull, check, scatter, tell P. One try again when the data fails its
// check (G3). Transfer thread only, from start() on.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "protocol/handoff_message.h"
#include "protocol/kv_descriptor.h"
#include "transfer/kv_transport.h"
#include "transfer/scatter.h"

namespace pd::transfer {

struct HandoffPlan {
  protocol::AttemptId id;  // of the decode leg, for P's log
  protocol::KvDescriptor descriptor;
  KvPoolView pool;                // its memory outlives the handoff
  std::vector<BlockIndex> table;  // blocks that nobody else writes until `done`
  bool block_fixed = false;       // the measured baseline: one pull per block and plane
};

struct HandoffStats {
  Bytes bytes;
  std::uint32_t pieces = 0;
  std::uint32_t integrity_failures = 0;  // tries that failed their check before this one succeeded
};

class HandoffReceiver : public std::enable_shared_from_this<HandoffReceiver> {
 public:
  // `done` runs exactly once after start(), on the transfer thread; afterwards the blocks are not
  // touched any more. Errors: kUnavailable (P gone, or it gave the range up), kCorrupt (twice),
  // kCancelled.
  HandoffReceiver(HandoffPlan plan, std::function<void(Result<HandoffStats>)> done);
  void start(KvTransport& transport);
  void cancel();

 private:
  void pull();
  void pull_blocks();
  void on_bytes(const Result<std::span<const std::byte>>& bytes);
  Status take(std::span<const std::byte> range);
  void finish(Result<HandoffStats> result);
  void notify(protocol::HandoffOutcome outcome);

  HandoffPlan plan_;
  std::function<void(Result<HandoffStats>)> done_;
  KvTransport* transport_ = nullptr;
  std::optional<KvTransport::PullId> pull_;
  bool cancelled_ = false;
  HandoffStats stats_;
  // Block-fixed: the pieces arrive one by one into this copy of the range.
  std::vector<std::byte> assembled_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>>
      pieces_;  // offset and size, the next one last
};

}  // namespace pd::transfer
