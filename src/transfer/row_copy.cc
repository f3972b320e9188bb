#include "transfer/row_copy.h"

#include <cstring>

#include "transfer/row_copy_loop.h"

namespace pd::transfer {
namespace {

struct CachedRow {
  static void copy(std::byte* to, const std::byte* from, std::size_t bytes) {
    std::memcpy(to, from, bytes);
  }
};

}  // namespace

RowCopy cached_row_copy(std::size_t head_row) { return choose_row_copy<CachedRow>(head_row); }

}  // namespace pd::transfer
