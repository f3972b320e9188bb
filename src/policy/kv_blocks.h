// Bookkeeping of D's paged KV pool: which block belongs to whom, and who may come in. Pure; knows
// no memory. Invariant: every block is free or in exactly one table; free() + used() == total().
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "base/units.h"
#include "policy/growth_model.h"
#include "policy/holder.h"

namespace pd::policy {

struct KvBlocksOptions {
  std::size_t window = 256;  // finished requests remembered: a shift of the load shows in minutes
  Tokens first_guess{256};   // output length before anything has finished
  // Room kept over the expected need, in standard deviations. With 3, one request in 500 is evicted
  // when lengths are geometric, and the pool is 86 % full (kv_blocks_test).
  double deviations = 3.0;
  // An eviction says that the load is not as learned: so many more deviations, until requests
  // finish again; each takes a fiftieth of the excess away.
  double deviations_per_eviction = 0.5;
  bool look_ahead = true;  // false: admit on what is free now (the baseline to compare with)
};

// A request that was evicted this often is not evicted again (G15): it comes in when all it can
// ever need is there, and takes it at once.
inline constexpr int kEvictionsMax = 2;

struct KvDemand {
  Tokens kv_length;   // positions whose KV exists at admission
  Tokens output;      // tokens emitted so far, all attempts
  Tokens output_max;  // the request's max_tokens
  int evictions = 0;  // it has been through
};

enum class KvAdmission : std::uint8_t {
  kAccepted,
  kBusy,       // not now
  kTooLarge,   // not even alone: more than the whole pool
  kDuplicate,  // held already
};

// A request in the batch that could give its blocks up.
struct EvictionCandidate {
  Holder holder;
  bool placed_again = false;  // it joined with more than the prefill's token: evicted or resumed
  Tokens output;              // over all attempts
  std::uint64_t arrival = 0;  // order of joining the batch
  int evictions = 0;          // it has been through
};

// Who goes when no block is left: one that has not been through it yet; then the one with the least
// output, of equals the last to come. Not simply the last to come: a request that was evicted
// before has come last and would be the victim again and again (G15). Never one that holds all it
// can need (kEvictionsMax): nobody grows but others, and they are candidates. `candidates` is not
// empty.
Holder choose_victim(std::span<const EvictionCandidate> candidates);

class KvBlocks {
 public:
  // total >= 0, block_tokens >= 1.
  KvBlocks(BlockCount total, Tokens block_tokens, const KvBlocksOptions& options);

  // Takes blocks for the KV and the next token, if there are enough and if the need of all holders
  // together, this one included, is not expected to exceed the pool at any later moment. A request
  // that is alone needs only the former: waiting would not help it.
  //
  // The need at t tokens from now is the sum over holders of (probability that it still runs) x
  // (its blocks by then), plus some standard deviations of that sum. After Gong et al. 2025,
  // "Past-Future Scheduler", which samples lengths; the expectation needs no samples.
  KvAdmission admit(const Holder& holder, const KvDemand& demand);

  // Afterwards the holder's table covers `length` positions. False: not enough free, nothing
  // changed; the caller evicts somebody. The holder exists.
  bool grow(const Holder& holder, Tokens length);

  // Output tokens expected of a request that begins; what its growth takes.
  Tokens growth() const;

  // The holder has emitted `output` tokens.
  void on_output(const Holder& holder, Tokens output);

  // Gives all blocks back. `finished`: the output ended by itself, so its length teaches the growth
  // model. Unknown holders are ignored: a lease may have ended before.
  void release(const Holder& holder, bool finished);
  // The same for a request that had to make room for others.
  void evict(const Holder& holder);

  bool holds(const Holder& holder) const { return held_.contains(holder); }
  std::span<const BlockIndex> table(const Holder& holder) const;  // empty: unknown

  BlockCount total() const { return total_; }
  BlockCount free() const { return BlockCount(static_cast<std::int64_t>(free_.size())); }
  BlockCount used() const { return total_ - free(); }
  std::size_t holders() const { return held_.size(); }
  Tokens block_tokens() const { return block_tokens_; }

  // Blocks that the holders are expected to need at the worst later moment; may exceed total().
  BlockCount need() const;
  // Output tokens until the first holder is expected to end: with the time per token, the hint of a
  // rejection. Zero when nobody holds anything.
  Tokens soonest_end() const;

 private:
  struct Held {
    std::vector<BlockIndex> table;
    Tokens kv_length;  // with `output` tokens emitted
    Tokens output;
    Tokens output_max;
    BlockCount reserved;  // from the start; none: it grows
  };
  double need_with(const Held* candidate) const;
  void take(Held& held, std::size_t blocks);

  BlockCount total_;
  Tokens block_tokens_;
  KvBlocksOptions options_;
  GrowthModel growth_;
  double caution_ = 0.0;          // deviations over the configured ones
  std::vector<BlockIndex> free_;  // last in, first out: the warmest block goes first
  std::map<Holder, Held> held_;
};

}  // namespace pd::policy
