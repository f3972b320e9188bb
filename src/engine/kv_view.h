// One sequence's K and V, wherever they lie: contiguous on P, paged on D. Kernels see rows, so both
// give the same numbers (docs/architecture.md, "the same answer").
#pragma once

#include <cstddef>
#include <span>

#include "base/check.h"
#include "base/units.h"
#include "engine/kernels/kernels.h"
#include "protocol/kv_layout.h"

namespace pd::engine {

// Rows of consecutive positions with a constant stride.
struct KvRows {
  std::byte* first = nullptr;
  std::int64_t stride = 0;  // bytes from one position to the next
  std::int64_t count = 0;   // positions until the run ends
};

// Does not own memory. Cheap to copy.
class KvView {
 public:
  // `range`: layout.range(capacity) bytes, [layer][K|V][token][kv_head][head_dim].
  static KvView contiguous(const protocol::KvLayout& layout, std::byte* range, Tokens capacity) {
    KvView view(layout, capacity);
    view.base_ = range;
    return view;
  }
  // `planes`: one pointer per (layer, K|V), index 2 * layer + (K: 0, V: 1), each a pool of
  // [block][kv_head][token_in_block][head_dim]; `table`: the sequence's blocks in order. Both
  // outlive the view.
  static KvView paged(const protocol::KvLayout& layout, std::span<std::byte* const> planes,
                      std::span<const BlockIndex> table) {
    KvView view(layout, Tokens(static_cast<std::int64_t>(table.size()) * layout.block_tokens));
    view.planes_ = planes;
    view.table_ = table;
    return view;
  }

  Tokens capacity() const { return capacity_; }
  const protocol::KvLayout& layout() const { return layout_; }

  // All rows of (layer, K|V), as the kernels address them. Valid as long as the view's memory.
  KvPlane plane(int layer, int k_or_v) const {
    const std::int64_t head_row = layout_.head_row().value();
    if (base_ != nullptr) {
      return {.base = base_ + layout_.plane_offset(layer, k_or_v, capacity_).value(),
              .head_bytes = head_row,
              .token_bytes = layout_.row().value()};
    }
    // A BlockIndex is its number and nothing else.
    static_assert(sizeof(BlockIndex) == sizeof(std::uint32_t));
    return {.base = planes_[plane_index(layer, k_or_v)],
            .table = reinterpret_cast<const std::uint32_t*>(table_.data()),
            .block_tokens = layout_.block_tokens,
            .block_bytes = layout_.block_plane().value(),
            .head_bytes = layout_.block_tokens * head_row,
            .token_bytes = head_row};
  }

  // The run of rows of (layer, K|V, kv_head) that starts at `position`; position < capacity.
  KvRows rows(int layer, int k_or_v, int kv_head, std::int64_t position) const {
    DCHECK(position < capacity_.value());
    const std::int64_t head_row = layout_.head_row().value();
    if (base_ != nullptr) {
      const std::int64_t row = layout_.row().value();
      return {base_ + layout_.plane_offset(layer, k_or_v, capacity_).value() + position * row +
                  kv_head * head_row,
              row, capacity_.value() - position};
    }
    const std::int64_t per_block = layout_.block_tokens;
    const std::int64_t in_block = position % per_block;
    const auto block =
        static_cast<std::int64_t>(table_[static_cast<std::size_t>(position / per_block)].value());
    std::byte* plane = planes_[plane_index(layer, k_or_v)];
    return {
        plane + block * layout_.block_plane().value() + (kv_head * per_block + in_block) * head_row,
        head_row, per_block - in_block};
  }

 private:
  static std::size_t plane_index(int layer, int k_or_v) {
    return 2 * static_cast<std::size_t>(layer) + static_cast<std::size_t>(k_or_v);
  }
  KvView(const protocol::KvLayout& layout, Tokens capacity)
      : layout_(layout), capacity_(capacity) {}
  protocol::KvLayout layout_;
  Tokens capacity_;
  std::byte* base_ = nullptr;
  std::span<std::byte* const> planes_;
  std::span<const BlockIndex> table_;
};

}  // namespace pd::engine
