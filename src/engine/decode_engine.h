// D's engine: continuous batching over paged KV. One step gives every job in the batch one token;
// jobs join at the next step. Synchronous and without a thread of its own.
//
// Who holds blocks: the caller reserves them (KvBlocks::admit), fills them with the pulled KV and
// releases them when the job has ended. The engine only lets tables grow, and releases those of the
// jobs it evicts, because it needs their blocks at once.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "base/time.h"
#include "base/units.h"
#include "engine/forward_pass.h"
#include "engine/kv_pool.h"
#include "engine/prefill_engine.h"
#include "engine/sampler.h"
#include "policy/holder.h"
#include "policy/kv_blocks.h"
#include "protocol/sampling_params.h"

namespace pd::engine {

struct DecodeJob {
  policy::Holder id;             // holds blocks for kv_length + 1 positions at least
  Tokens kv_length;              // positions [0, kv_length) are in its blocks
  std::vector<TokenId> emitted;  // output so far, at least 1; the last one is not in the KV yet
  std::vector<TokenId> prompt;   // may be empty when repetition_penalty is 1
  protocol::SamplingParams sampling;
  Time deadline = Time::max();
  int evictions = 0;  // it has been through
};

struct DecodeEvent {
  enum class Kind : std::uint8_t {
    kToken,    // `token` is output number `index`; the job goes on until remove()
    kEvicted,  // no block was left: policy::choose_victim(); its blocks are released
    kExpired,  // the deadline passed; the caller releases its blocks
    kFailed,   // `error`; the caller releases its blocks
  };
  Kind kind = Kind::kToken;
  policy::Holder id;
  std::uint32_t index = 0;
  SampledToken token;
  Error error;
};

struct DecodeEngineOptions {
  std::size_t batch_max = 64;  // jobs of one step; cut to the model's rows_max
  std::vector<TokenId> eos;    // the model's own end ids
};

class DecodeEngine {
 public:
  // All references outlive it. `pool` and `blocks` agree in number and size of blocks. `threads`
  // share the sampling of one step.
  DecodeEngine(ForwardPass& model, const KvPool& pool, policy::KvBlocks& blocks,
               ThreadPool& threads, const DecodeEngineOptions& options);

  // kNoCapacity: the batch is full; kInvalidArgument: the job breaks its description;
  // kAlreadyExists. Reads `blocks`.
  Status admit(DecodeJob job);
  // Ends a job (finished, cancelled); does not touch its blocks, which the caller releases after
  // this and never before. False: unknown.
  bool remove(const policy::Holder& id);

  // One step in two parts, so that a caller who shares `blocks` with other threads needs to guard
  // only the first, which is short. begin_step(): drops expired jobs and takes blocks for the next
  // token of every job, in order of arrival; when none is left,
  // policy::choose_victim() says who is evicted (G15).
  std::vector<DecodeEvent> begin_step(Time now);
  // Computes one token for every job. Does not touch `blocks`.
  std::vector<DecodeEvent> run_step();
  // Both.
  std::vector<DecodeEvent> step(Time now);

  bool idle() const { return jobs_.empty(); }
  std::size_t jobs() const { return jobs_.size(); }
  std::size_t batch_max() const { return options_.batch_max; }
  const EngineProgress& progress() const { return progress_; }

 private:
  struct Running {
    DecodeJob job;
    bool placed_again = false;
    std::vector<BlockIndex> table;  // a copy: `blocks` may change while a step runs
  };
  using Arrival = std::uint64_t;
  bool take_block(Arrival arrival, std::vector<DecodeEvent>& events);
  void drop(Arrival arrival);

  ForwardPass& model_;
  const KvPool& pool_;
  policy::KvBlocks& blocks_;
  ThreadPool& threads_;
  DecodeEngineOptions options_;
  Arrival next_arrival_ = 0;
  std::map<Arrival, Running> jobs_;  // oldest first
  std::map<policy::Holder, Arrival> arrivals_;
  EngineProgress progress_;
};

}  // namespace pd::engine
