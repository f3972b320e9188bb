// The inner loop of recv-scatter: tokens of one block, dense on the contiguous side, one run per
// head on the paged side. Token by token, so that the source is one stream; each head's row is
// whole cache lines of the destination either way.
#pragma once

#include <cstddef>

namespace pd::transfer {

struct RowCopyJob {
  std::byte* to = nullptr;          // head 0's row of the first token
  std::size_t head_stride = 0;      // from a head's run to the next one's
  const std::byte* from = nullptr;  // [tokens][heads][head_row]
  std::size_t tokens = 0;
  std::size_t heads = 0;
  std::size_t head_row = 0;  // bytes
  std::size_t ahead = 0;     // that many bytes further on the source is asked for; 0: it is not
};
using RowCopy = void (*)(const RowCopyJob& job);

// Leaves the destination in the cache.
RowCopy cached_row_copy(std::size_t head_row);
// Writes past the cache, with the widest stores of this CPU. `to`, head_stride and head_row are
// multiples of 64. Others see the bytes after stores_done() (scatter.h).
RowCopy streaming_row_copy(std::size_t head_row);

}  // namespace pd::transfer
