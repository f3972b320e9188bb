// Sixteen f32 lanes in two AVX2 registers; see simd_avx512.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace pd::engine {
namespace {

#define PD_SIMD [[gnu::always_inline]] static inline

struct Avx2 {
  struct F {
    __m256 lo, hi;
  };

  // 16 registers: 12 accumulators (two for each of 6 row-tile pairs), two weights, one broadcast
  // and the mask that widens bf16.
  static constexpr int kRows = 6;
  static constexpr bool kKeepsBroadcasts = false;
  static constexpr int tiles(int rows) { return rows == 1 ? 4 : (rows <= 3 ? 2 : 1); }

  PD_SIMD F zero() { return set1(0.0F); }
  PD_SIMD F set1(float value) {
    const __m256 v = _mm256_set1_ps(value);
    return {v, v};
  }
  PD_SIMD F load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
  PD_SIMD void store(float* to, F value) {
    _mm256_storeu_ps(to, value.lo);
    _mm256_storeu_ps(to + 8, value.hi);
  }
  PD_SIMD F load_n(const float* from, std::int64_t n) {
    return {_mm256_maskload_ps(from, first(n)), _mm256_maskload_ps(from + 8, first(n - 8))};
  }
  PD_SIMD void store_n(float* to, F value, std::int64_t n) {
    _mm256_maskstore_ps(to, first(n), value.lo);
    _mm256_maskstore_ps(to + 8, first(n - 8), value.hi);
  }
  PD_SIMD F load_bf16(const std::uint16_t* from) {
    return {widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))),
            widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 8)))};
  }
  PD_SIMD F load_bf16_n(const std::uint16_t* from, std::int64_t n) {
    alignas(32) std::uint16_t copy[16] = {};
    for (std::int64_t i = 0; i < n; ++i) copy[i] = from[i];
    return load_bf16(copy);
  }
  PD_SIMD F load_even(const void* pairs) {
    const auto* p = static_cast<const __m256i*>(pairs);
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(p), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(p + 1), 16))};
  }
  PD_SIMD F load_odd(const void* pairs) {
    const auto* p = static_cast<const __m256i*>(pairs);
    const __m256i upper = _mm256_set1_epi32(-65536);
    return {_mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(p), upper)),
            _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(p + 1), upper))};
  }

  PD_SIMD F add(F a, F b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
  PD_SIMD F sub(F a, F b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
  PD_SIMD F mul(F a, F b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
  PD_SIMD F div(F a, F b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
  PD_SIMD F fma(F a, F b, F c) {
    return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
  }
  PD_SIMD F max(F a, F b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
  PD_SIMD F min(F a, F b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
  PD_SIMD F round(F a) {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(a.lo, kNearest), _mm256_round_ps(a.hi, kNearest)};
  }
  PD_SIMD F power_of_two(F n) { return {power_of_two_8(n.lo), power_of_two_8(n.hi)}; }
  PD_SIMD F zero_below(F a, F limit, F value) {
    return {_mm256_andnot_ps(_mm256_cmp_ps(a.lo, limit.lo, _CMP_LT_OQ), value.lo),
            _mm256_andnot_ps(_mm256_cmp_ps(a.hi, limit.hi, _CMP_LT_OQ), value.hi)};
  }
  PD_SIMD F keep(F value, std::int64_t begin, std::int64_t end, F other) {
    return {keep_8(value.lo, begin, end, other.lo), keep_8(value.hi, begin - 8, end - 8, other.hi)};
  }

  PD_SIMD float sum(F a) {
    const __m256 half = _mm256_add_ps(a.lo, a.hi);
    const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
  }
  PD_SIMD float maximum(F a) {
    const __m256 half = _mm256_max_ps(a.lo, a.hi);
    const __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    const __m128 pair = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_max_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
  }

  PD_SIMD void transpose(F (&rows)[16]) {
    __m256 a[8], b[8], c[8], d[8];  // quadrants: a b / c d
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      a[i] = rows[i].lo;
      b[i] = rows[i].hi;
      c[i] = rows[8 + i].lo;
      d[i] = rows[8 + i].hi;
    }
    transpose_8(a);
    transpose_8(b);
    transpose_8(c);
    transpose_8(d);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      rows[i] = {a[i], c[i]};
      rows[8 + i] = {b[i], d[i]};
    }
  }

 private:
  // All ones in lanes below n; any n.
  PD_SIMD __m256i first(std::int64_t n) {
    const int limit = n < 0 ? 0 : (n > 8 ? 8 : static_cast<int>(n));
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(limit), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  PD_SIMD __m256 widen(__m128i bf16) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bf16), 16));
  }
  PD_SIMD __m256 power_of_two_8(__m256 n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
  }
  PD_SIMD __m256 keep_8(__m256 value, std::int64_t begin, std::int64_t end, __m256 other) {
    const __m256i mask = _mm256_andnot_si256(first(begin), first(end));
    return _mm256_blendv_ps(other, value, _mm256_castsi256_ps(mask));
  }
  PD_SIMD void transpose_8(__m256 (&r)[8]) {
    __m256 a[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      a[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
      a[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      r[4 * i] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0x44);
      r[4 * i + 1] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0xEE);
      r[4 * i + 2] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0x44);
      r[4 * i + 3] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0xEE);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      a[i] = _mm256_permute2f128_ps(r[i], r[4 + i], 0x20);
      a[4 + i] = _mm256_permute2f128_ps(r[i], r[4 + i], 0x31);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) r[i] = a[i];
  }
};

#undef PD_SIMD

}  // namespace
}  // namespace pd::engine
