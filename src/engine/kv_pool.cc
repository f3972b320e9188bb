#include "engine/kv_pool.h"

#include <fmt/format.h>

#include <limits>

namespace pd::engine {
namespace {

Bytes block_bytes(const protocol::KvLayout& layout) {
  return layout.block_plane() * (2 * std::int64_t{layout.layers});
}

}  // namespace

Result<KvPool> KvPool::create(const protocol::KvLayout& layout, BlockCount blocks) {
  const std::int64_t per_block = block_bytes(layout).value();
  if (per_block <= 0) {
    return error(ErrorCode::kInvalidArgument,
                 "KV pool: the layout has no bytes; layers, kv_heads, head_dim and block_tokens "
                 "must be at least 1");
  }
  if (blocks.value() < 0 || blocks.value() > std::numeric_limits<std::uint32_t>::max() ||
      blocks.value() > std::numeric_limits<std::int64_t>::max() / per_block) {
    return error(ErrorCode::kTooLarge, fmt::format("KV pool: {} blocks are too many; configure "
                                                   "less KV memory",
                                                   blocks.value()));
  }
  Result<PageMemory> memory =
      PageMemory::create(Bytes(per_block * blocks.value()), "[decode] kv_memory");
  if (!memory) return std::unexpected(memory.error());
  return KvPool(layout, blocks, std::move(*memory));
}

BlockCount KvPool::blocks_in(const protocol::KvLayout& layout, Bytes memory) {
  const std::int64_t per_block = block_bytes(layout).value();
  return BlockCount(per_block > 0 ? memory.value() / per_block : 0);
}

KvPool::KvPool(const protocol::KvLayout& layout, BlockCount blocks, PageMemory memory)
    : layout_(layout), blocks_(blocks), memory_(std::move(memory)) {
  const std::int64_t plane = layout.block_plane().value() * blocks.value();
  for (std::int64_t i = 0; i < 2 * std::int64_t{layout.layers}; ++i) {
    planes_.push_back(memory_.bytes().data() + i * plane);
  }
}

}  // namespace pd::engine
