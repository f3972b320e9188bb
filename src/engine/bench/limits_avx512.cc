#include <immintrin.h>

#include "engine/bench/limits.h"

namespace pd::engine::bench {

float f32_chains_avx512(std::int64_t rounds) {
  __m512 acc[24];  // different from the start, or the compiler makes them one
#pragma GCC unroll 24
  for (int c = 0; c < 24; ++c) acc[c] = _mm512_set1_ps(static_cast<float>(c));
  const __m512 x = _mm512_set1_ps(0.5F);
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (int c = 0; c < 24; ++c) acc[c] = _mm512_fmadd_ps(x, x, acc[c]);
  }
  __m512 sum = acc[0];
#pragma GCC unroll 24
  for (int c = 1; c < 24; ++c) sum = _mm512_add_ps(sum, acc[c]);
  return _mm512_cvtss_f32(sum);
}

float bf16_chains_avx512(std::int64_t rounds) {
  __m512 acc[24];  // different from the start, or the compiler makes them one
#pragma GCC unroll 24
  for (int c = 0; c < 24; ++c) acc[c] = _mm512_set1_ps(static_cast<float>(c));
  const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3F003F00));
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (int c = 0; c < 24; ++c) acc[c] = _mm512_dpbf16_ps(acc[c], x, x);
  }
  __m512 sum = acc[0];
#pragma GCC unroll 24
  for (int c = 1; c < 24; ++c) sum = _mm512_add_ps(sum, acc[c]);
  return _mm512_cvtss_f32(sum);
}

}  // namespace pd::engine::bench
