// Recv-scatter: a prompt's contiguous KV into a paged pool, and back.
//   contiguous  [layer][K|V][token][kv_head][head_dim]
//   paged       per layer, K and V: [block][kv_head][token_in_block][head_dim]
// Pure copying, bit for bit. Source: Jin et al. 2024 (P/D-Serve), section 3.6, RecvScatter.
#pragma once

#include <cstddef>
#include <span>

#include "base/units.h"
#include "protocol/kv_layout.h"

namespace pd::transfer {

// D's pool: one pointer per (layer, K|V), index 2 * layer + (K: 0, V: 1). Does not own memory.
struct KvPoolView {
  protocol::KvLayout layout;
  std::span<std::byte* const> planes;
};

// Layer `layer` of `tokens` tokens from `kv` (the KV part of a range) into the blocks of `table`,
// which has at least blocks_for(tokens). Rows behind the last token are not touched.
void scatter_layer(const KvPoolView& pool, std::span<const BlockIndex> table,
                   std::span<const std::byte> kv, Tokens tokens, int layer);
// The reverse.
void gather_layer(const KvPoolView& pool, std::span<const BlockIndex> table,
                  std::span<std::byte> kv, Tokens tokens, int layer);

}  // namespace pd::transfer
