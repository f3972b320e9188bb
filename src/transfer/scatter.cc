#include "transfer/scatter.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace pd::transfer {
namespace {

// Walks the head rows of one layer in the contiguous side's order within a block, so that one side
// is a stream and the other stays inside one block (16 tokens of 3 heads of 128 bytes: 6 KiB, a
// part of L1).
template <typename Copy>
void walk_layer(const KvPoolView& pool, std::span<const BlockIndex> table, Tokens tokens, int layer,
                const Copy& copy) {
  const protocol::KvLayout& layout = pool.layout;
  const std::int64_t head_row = layout.head_row().value();
  const std::int64_t row = layout.row().value();
  const std::int64_t per_block = layout.block_tokens;
  CHECK(static_cast<std::int64_t>(table.size()) >= blocks_for(tokens, Tokens(per_block)).value());
  for (int k_or_v = 0; k_or_v < 2; ++k_or_v) {
    std::byte* const plane = pool.planes[static_cast<std::size_t>(2 * layer + k_or_v)];
    const std::int64_t source = layout.plane_offset(layer, k_or_v, tokens).value();
    for (std::int64_t first = 0; first < tokens.value(); first += per_block) {
      std::byte* const block =
          plane + std::int64_t{table[static_cast<std::size_t>(first / per_block)].value()} *
                      layout.block_plane().value();
      const std::int64_t count = std::min(per_block, tokens.value() - first);
      for (std::int64_t head = 0; head < layout.kv_heads; ++head) {
        for (std::int64_t token = 0; token < count; ++token) {
          copy(source + (first + token) * row + head * head_row,
               block + (head * per_block + token) * head_row, static_cast<std::size_t>(head_row));
        }
      }
    }
  }
}

}  // namespace

void scatter_layer(const KvPoolView& pool, std::span<const BlockIndex> table,
                   std::span<const std::byte> kv, Tokens tokens, int layer) {
  walk_layer(pool, table, tokens, layer,
             [&](std::int64_t offset, std::byte* paged, std::size_t size) {
               std::memcpy(paged, kv.data() + offset, size);
             });
}

void gather_layer(const KvPoolView& pool, std::span<const BlockIndex> table,
                  std::span<std::byte> kv, Tokens tokens, int layer) {
  walk_layer(pool, table, tokens, layer,
             [&](std::int64_t offset, const std::byte* paged, std::size_t size) {
               std::memcpy(kv.data() + offset, paged, size);
             });
}

}  // namespace pd::transfer
