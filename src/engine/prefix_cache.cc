#include "engine/prefix_cache.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace pd::engine {

Result<PrefixCache> PrefixCache::create(const protocol::KvLayout& layout, Tokens block_tokens,
                                        Bytes budget) {
  CHECK(block_tokens.value() >= 1);
  const std::int64_t per_block = layout.range(block_tokens).value();
  if (per_block <= 0) {
    return error(ErrorCode::kInvalidArgument,
                 "prefix cache: the KV layout has no bytes; layers, kv_heads and head_dim must be "
                 "at least 1");
  }
  const BlockCount capacity(
      std::min<std::int64_t>(std::max<std::int64_t>(budget.value(), 0) / per_block, 0xFFFFFFFE));
  Result<PageMemory> memory =
      PageMemory::create(Bytes(per_block * capacity.value()), "[prefill] prefix_cache");
  if (!memory) return std::unexpected(memory.error());
  return PrefixCache(layout, policy::PrefixIndex(block_tokens, capacity), std::move(*memory));
}

PrefixCache::PrefixCache(const protocol::KvLayout& layout, policy::PrefixIndex index,
                         PageMemory memory)
    : layout_(layout),
      block_bytes_(layout.range(index.block_tokens())),
      index_(std::move(index)),
      memory_(std::move(memory)) {}

Tokens PrefixCache::load(std::uint64_t tenant, std::span<const TokenId> tokens,
                         const KvRange& range, Tokens present) {
  if (tokens.empty()) return present;
  const std::vector<BlockIndex> blocks = index_.acquire(tenant, tokens.first(tokens.size() - 1));
  const std::int64_t per_block = block_tokens().value();
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const std::int64_t end = static_cast<std::int64_t>(i + 1) * per_block;
    if (end > present.value()) copy(blocks[i], range, i, Direction::kIntoRange);
    index_.unpin(blocks[i]);
  }
  return std::max(present, Tokens(static_cast<std::int64_t>(blocks.size()) * per_block));
}

void PrefixCache::store(std::uint64_t tenant, std::span<const TokenId> tokens,
                        const KvRange& range) {
  for (const policy::PrefixIndex::NewBlock& added : index_.insert(tenant, tokens)) {
    copy(added.block, range, added.position, Direction::kOutOfRange);
    index_.unpin(added.block);
  }
}

void PrefixCache::copy(BlockIndex block, const KvRange& range, std::size_t position,
                       Direction direction) {
  const Tokens per_block = block_tokens();
  const auto piece = static_cast<std::size_t>((layout_.row() * per_block.value()).value());
  std::byte* const cached =
      memory_.bytes().data() + static_cast<std::int64_t>(block.value()) * block_bytes_.value();
  for (int layer = 0; layer < layout_.layers; ++layer) {
    for (int k_or_v = 0; k_or_v < 2; ++k_or_v) {
      std::byte* const inside = range.memory.data() +
                                layout_.plane_offset(layer, k_or_v, range.capacity).value() +
                                position * piece;
      std::byte* const kept = cached + layout_.plane_offset(layer, k_or_v, per_block).value();
      if (direction == Direction::kIntoRange) {
        std::memcpy(inside, kept, piece);
      } else {
        std::memcpy(kept, inside, piece);
      }
    }
  }
}

}  // namespace pd::engine
