// Stores past the cache that every x86-64 has, and the choice of wider ones.
#include <emmintrin.h>

#include "transfer/row_copy.h"
#include "transfer/row_copy_loop.h"
#include "transfer/scatter.h"

namespace pd::transfer {

RowCopy avx2_streaming_row_copy(std::size_t head_row);  // row_copy_avx2.cc

namespace {

struct Sse2Row {
  static void copy(std::byte* to, const std::byte* from, std::size_t bytes) {
    for (std::size_t at = 0; at < bytes; at += sizeof(__m128i)) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + at),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at)));
    }
  }
};

}  // namespace

RowCopy streaming_row_copy(std::size_t head_row) {
  static const bool avx2 = __builtin_cpu_supports("avx2");
  return avx2 ? avx2_streaming_row_copy(head_row) : choose_row_copy<Sse2Row>(head_row);
}

void stores_done() { _mm_sfence(); }

}  // namespace pd::transfer
