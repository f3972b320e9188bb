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

struct KvDemand {
  Tokens kv_length;   // positions whose KV exists at admission
  Tokens output;      // tokens emitted so far, all attempts
  Tokens output_max;  // the request's max_tokens
};

enum class KvAdmission : std::uint8_t {
  kAccepted,
  kBusy,       // not now
  kTooLarge,   // not even alone: more than the whole pool
  kDuplicate,  // held already
};

class KvBlocks {
 public:
  // total >= 0, block_tokens >= 1.
  KvBlocks(BlockCount total, Tokens block_tokens, const GrowthOptions& growth);

  // Takes blocks for the KV and the next token. Accepts only when these, their expected growth and
  // the expected growth of all holders fit into what is free; a request that is alone needs only
  // the former, because waiting would not help it.
  KvAdmission admit(const Holder& holder, const KvDemand& demand);

  // Afterwards the holder's table covers `length` positions. False: not enough free, nothing
  // changed; the caller evicts somebody. The holder exists.
  bool grow(const Holder& holder, Tokens length);

  // The holder has emitted `output` tokens.
  void on_output(const Holder& holder, Tokens output);

  // Gives all blocks back. `finished`: the output ended by itself, so its length teaches the growth
  // model. Unknown holders are ignored: a lease may have ended before.
  void release(const Holder& holder, bool finished);

  bool holds(const Holder& holder) const { return held_.contains(holder); }
  std::span<const BlockIndex> table(const Holder& holder) const;  // empty: unknown

  BlockCount total() const { return total_; }
  BlockCount free() const { return BlockCount(static_cast<std::int64_t>(free_.size())); }
  BlockCount used() const { return total_ - free(); }
  std::size_t holders() const { return held_.size(); }
  Tokens block_tokens() const { return block_tokens_; }

  // Blocks that the present holders are expected to need yet.
  BlockCount reserve() const;
  // Output tokens until the first holder is expected to end: with the time per token, the hint of a
  // rejection. Zero when nobody holds anything.
  Tokens soonest_end() const;

 private:
  struct Held {
    std::vector<BlockIndex> table;
    Tokens kv_length;  // with `output` tokens emitted
    Tokens output;
    Tokens output_max;
  };
  BlockCount growth(const Held& held) const;
  void take(Held& held, std::size_t blocks);

  BlockCount total_;
  Tokens block_tokens_;
  GrowthModel growth_;
  std::vector<BlockIndex> free_;  // last in, first out: the warmest block goes first
  std::map<Holder, Held> held_;
};

}  // namespace pd::policy
