#include <immintrin.h>

#include "engine/bench/limits.h"

namespace pd::engine::bench {

float f32_chains_avx2(std::int64_t rounds) {
  __m256 acc[12];  // different from the start, or the compiler makes them one
#pragma GCC unroll 12
  for (int c = 0; c < 12; ++c) acc[c] = _mm256_set1_ps(static_cast<float>(c));
  const __m256 x = _mm256_set1_ps(0.5F);
  for (std::int64_t i = 0; i < rounds * 2; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < 12; ++c) acc[c] = _mm256_fmadd_ps(x, x, acc[c]);
  }
  __m256 sum = acc[0];
#pragma GCC unroll 12
  for (int c = 1; c < 12; ++c) sum = _mm256_add_ps(sum, acc[c]);
  return _mm256_cvtss_f32(sum);
}

std::int64_t read_avx2(const std::byte* from) {
  constexpr std::size_t kStream = kReadBytes / 8;
  __m256i sum[8];
#pragma GCC unroll 8
  for (int s = 0; s < 8; ++s) sum[s] = _mm256_set1_epi64x(s);
  for (std::size_t at = 0; at < kStream; at += 64) {
#pragma GCC unroll 8
    for (int s = 0; s < 8; ++s) {
      const auto* line = reinterpret_cast<const __m256i*>(from + s * kStream + at);
      sum[s] = _mm256_add_epi64(sum[s], _mm256_loadu_si256(line));
      sum[s] = _mm256_add_epi64(sum[s], _mm256_loadu_si256(line + 1));
    }
  }
#pragma GCC unroll 8
  for (int s = 1; s < 8; ++s) sum[0] = _mm256_add_epi64(sum[0], sum[s]);
  return _mm256_extract_epi64(sum[0], 0) + _mm256_extract_epi64(sum[0], 3);
}

}  // namespace pd::engine::bench
