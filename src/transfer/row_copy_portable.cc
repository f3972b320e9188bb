// For CPUs without stores that we know to go around the cache.
#include <atomic>

#include "transfer/row_copy.h"
#include "transfer/scatter.h"

namespace pd::transfer {

RowCopy streaming_row_copy(std::size_t head_row) { return cached_row_copy(head_row); }

void stores_done() { std::atomic_thread_fence(std::memory_order_release); }

}  // namespace pd::transfer
