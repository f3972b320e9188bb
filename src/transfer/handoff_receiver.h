// D's side of one handoff: pull, check, scatter, tell P. One try again when the data fails its
// check (G3). Transfer thread only, from start() on.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "protocol/handoff_message.h"
#include "protocol/kv_descriptor.h"
#include "transfer/kv_transport.h"
#include "transfer/range_pieces.h"
#include "transfer/range_reader.h"
#include "transfer/scatter.h"

namespace pd::transfer {

struct HandoffPlan {
  protocol::AttemptId id;  // of the decode leg, for P's log
  protocol::KvDescriptor descriptor;
  KvPoolView pool;                // its memory outlives the handoff
  std::vector<BlockIndex> table;  // blocks that nobody else writes until `done`
  bool block_fixed = false;       // the measured baseline: each block for itself
};

struct HandoffStats {
  Bytes bytes;                           // of the try that succeeded
  std::uint32_t pieces = 0;              // pulls it took
  std::uint32_t integrity_failures = 0;  // tries that failed their check before this one succeeded
};

class HandoffReceiver : public std::enable_shared_from_this<HandoffReceiver> {
 public:
  // `done` runs exactly once after start(), on the transfer thread; afterwards the blocks are not
  // touched any more. Errors: kUnavailable (P gone, or it gave the range up), kCorrupt (twice),
  // kCancelled, kInvalidArgument (the descriptor does not fit the pool's layout).
  HandoffReceiver(HandoffPlan plan, std::function<void(Result<HandoffStats>)> done);
  void start(KvTransport& transport);
  void cancel();  // `done` runs inside, unless it has run or start() has not

 private:
  PeerAddress peer() const;
  void begin();
  void ask();
  void pull(const RangePiece& piece);
  void on_piece(int attempt, const RangePiece& piece,
                const Result<std::span<const std::byte>>& bytes);
  Status take(const RangePiece& piece, std::span<const std::byte> bytes);
  void try_again(const Error& reason);
  void drop_pulls();
  void finish(Result<HandoffStats> result);
  void notify(protocol::HandoffOutcome outcome);

  HandoffPlan plan_;
  std::function<void(Result<HandoffStats>)> done_;
  KvTransport* transport_ = nullptr;
  bool cancelled_ = false;
  HandoffStats stats_;

  // Of the current try; callbacks of an earlier one know it by its number.
  int attempt_ = 0;
  std::optional<RangePieces> pieces_;
  std::optional<RangeReader> reader_;
  int asked_ = 0;  // pieces asked for and not taken yet
  std::set<KvTransport::PullId> pulls_;
};

}  // namespace pd::transfer
