// Stores of half a line past the cache: on Zen 5 a fifth faster than quarters, and level with whole
// lines.
#include <immintrin.h>

#include "transfer/row_copy.h"
#include "transfer/row_copy_loop.h"

namespace pd::transfer {

RowCopy avx2_streaming_row_copy(std::size_t head_row);

namespace {

struct Avx2Row {
  static void copy(std::byte* to, const std::byte* from, std::size_t bytes) {
    for (std::size_t at = 0; at < bytes; at += sizeof(__m256i)) {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(to + at),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + at)));
    }
  }
};

}  // namespace

RowCopy avx2_streaming_row_copy(std::size_t head_row) { return choose_row_copy<Avx2Row>(head_row); }

}  // namespace pd::transfer
