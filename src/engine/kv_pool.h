// D's memory for paged KV: one pool of blocks per (layer, K|V). Which block belongs to whom is
// policy::KvBlocks' business.
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "engine/page_memory.h"
#include "protocol/kv_layout.h"

namespace pd::engine {

class KvPool {
 public:
  // kInvalidArgument for an empty layout; kNoCapacity when the system refuses the memory.
  static Result<KvPool> create(const protocol::KvLayout& layout, BlockCount blocks);

  // How many blocks `memory` holds.
  static BlockCount blocks_in(const protocol::KvLayout& layout, Bytes memory);

  // Index 2 * layer + (K: 0, V: 1); each [block][kv_head][token_in_block][head_dim]. Valid as long
  // as the pool, also after a move.
  std::span<std::byte* const> planes() const { return planes_; }
  std::span<std::byte> memory() const { return memory_.bytes(); }
  const protocol::KvLayout& layout() const { return layout_; }
  BlockCount blocks() const { return blocks_; }

 private:
  KvPool(const protocol::KvLayout& layout, BlockCount blocks, PageMemory memory);
  protocol::KvLayout layout_;
  BlockCount blocks_;
  PageMemory memory_;
  std::vector<std::byte*> planes_;
};

}  // namespace pd::engine
