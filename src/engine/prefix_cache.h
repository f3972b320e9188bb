// P's prefix cache: KV of prompt beginnings, copied out of a finished range and into a new one.
// Blocks of `block_tokens` positions, each [layer][K|V][token][kv_head][head_dim]; which prefix
// lies where is policy::PrefixIndex' business. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "base/units.h"
#include "engine/page_memory.h"
#include "policy/prefix_index.h"
#include "protocol/kv_layout.h"

namespace pd::engine {

// A prompt's contiguous KV: layout.range(capacity) bytes. Does not own them.
struct KvRange {
  std::span<std::byte> memory;
  Tokens capacity;
};

class PrefixCache {
 public:
  // `budget`: bytes of KV kept; less than one block is no cache. block_tokens >= 1.
  static Result<PrefixCache> create(const protocol::KvLayout& layout, Tokens block_tokens,
                                    Bytes budget);

  // Copies the longest known prefix of `tokens` into `range`, except for the first `present`
  // positions, which are there already. Returns the positions that are present afterwards. The last
  // token is never covered: its logits are needed.
  Tokens load(std::uint64_t tenant, std::span<const TokenId> tokens, const KvRange& range,
              Tokens present);

  // Remembers the whole blocks of `tokens`, all of whose KV is in `range`.
  void store(std::uint64_t tenant, std::span<const TokenId> tokens, const KvRange& range);

  void clear() { index_.clear(); }
  const policy::PrefixIndexStats& stats() const { return index_.stats(); }
  Bytes used() const { return block_bytes_ * index_.size().value(); }
  Tokens block_tokens() const { return index_.block_tokens(); }

 private:
  PrefixCache(const protocol::KvLayout& layout, policy::PrefixIndex index, PageMemory memory);
  enum class Direction : std::uint8_t { kIntoRange, kOutOfRange };
  void copy(BlockIndex block, const KvRange& range, std::size_t position, Direction direction);

  protocol::KvLayout layout_;
  Bytes block_bytes_;
  policy::PrefixIndex index_;
  PageMemory memory_;
};

}  // namespace pd::engine
