// Recv-scatter: a prompt's contiguous KV into a paged pool, and back.
//   contiguous  [layer][K|V][token][kv_head][head_dim]
//   paged       per layer, K and V: [block][kv_head][token_in_block][head_dim]
// Pure copying, bit for bit. Source: Jin et al. 2024 (P/D-Serve), section 3.6, RecvScatter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/units.h"
#include "protocol/kv_layout.h"

namespace pd::transfer {

// D's pool: one pointer per (layer, K|V), index 2 * layer + (K: 0, V: 1). Does not own memory.
struct KvPoolView {
  protocol::KvLayout layout;
  std::span<std::byte* const> planes;
};

// Whether what is written should be in the cache afterwards. Around it the copy saves reading every
// destination line first, a third of its memory traffic; it pays once the data exceeds the cache.
enum class Stores : std::uint8_t { kCached, kAroundCache };
// What suits `size` bytes that are scattered in one go.
Stores stores_for(Bytes size);

// One layer's K (0) or V (1).
struct KvPlane {
  int layer = 0;
  int k_or_v = 0;
};

// `rows`: the plane's tokens from `first` on, [token][kv_head][head_dim], into the blocks of
// `table`, which holds them. Other rows of the blocks are not touched. `more`: bytes that follow
// `rows` in memory and will be scattered next; they are prefetched. After kAroundCache, other
// threads may read the blocks only after stores_done().
void scatter_rows(const KvPoolView& pool, std::span<const BlockIndex> table, KvPlane plane,
                  Tokens first, std::span<const std::byte> rows, Stores stores, Bytes more);
void stores_done();

// Layer `layer` of `tokens` tokens from `kv` (the KV part of a range) into the blocks of `table`,
// which has at least blocks_for(tokens). Rows behind the last token are not touched.
void scatter_layer(const KvPoolView& pool, std::span<const BlockIndex> table,
                   std::span<const std::byte> kv, Tokens tokens, int layer);
// The reverse.
void gather_layer(const KvPoolView& pool, std::span<const BlockIndex> table,
                  std::span<std::byte> kv, Tokens tokens, int layer);

}  // namespace pd::transfer
