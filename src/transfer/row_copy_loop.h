// The loop of row_copy.h around one way to copy a row. Included by one file per instruction set.
#pragma once

#include <cstddef>

#include "transfer/row_copy.h"

namespace pd::transfer {

// kHeadRow 0: known only at run time. Row::copy(to, from, bytes) copies a row.
template <typename Row, std::size_t kHeadRow>
void copy_rows(const RowCopyJob& job) {
  const std::size_t head_row = kHeadRow != 0 ? kHeadRow : job.head_row;
  const std::byte* from = job.from;
  for (std::size_t token = 0; token < job.tokens; ++token) {
    std::byte* to = job.to + token * head_row;
    for (std::size_t head = 0; head < job.heads; ++head) {
      for (std::size_t at = 0; job.ahead != 0 && at < head_row; at += 64) {
        __builtin_prefetch(from + job.ahead + at, 0, 3);
      }
      Row::copy(to, from, head_row);
      from += head_row;
      to += job.head_stride;
    }
  }
}

// head_dim 64, 128 and 256 in bf16 and f32 have no loop inside a row.
template <typename Row>
RowCopy choose_row_copy(std::size_t head_row) {
  switch (head_row) {
    case 128:
      return copy_rows<Row, 128>;
    case 256:
      return copy_rows<Row, 256>;
    case 512:
      return copy_rows<Row, 512>;
    default:
      return copy_rows<Row, 0>;
  }
}

}  // namespace pd::transfer
