// Sixteen f32 lanes in one AVX-512 register. Same operations, lane for lane, as simd_avx2.h, sums
// over lanes included: operators written over either give the same bits.
//
// Unnamed namespaces in this folder's headers are meant: each file that includes them is compiled
// for its own instruction set and must keep its code to itself (kernels.h).
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace pd::engine {
namespace {

#define PD_SIMD [[gnu::always_inline]] static inline

struct Avx512 {
  using F = __m512;

  // Rows and tiles of a register block: 24 accumulators, at most 6 broadcasts and one weight make
  // 31 of 32 registers. Few rows take more tiles, so that 8 chains or more hide the latency.
  static constexpr int kRows = 6;
  static constexpr bool kKeepsBroadcasts = true;
  static constexpr int tiles(int rows) { return rows <= 3 ? 8 : 4; }

  PD_SIMD F zero() { return _mm512_setzero_ps(); }
  PD_SIMD F set1(float value) { return _mm512_set1_ps(value); }
  PD_SIMD F load(const float* from) { return _mm512_loadu_ps(from); }
  PD_SIMD void store(float* to, F value) { _mm512_storeu_ps(to, value); }
  // The first n lanes, 0 <= n <= 16; the others are 0, or not stored.
  PD_SIMD F load_n(const float* from, std::int64_t n) {
    return _mm512_maskz_loadu_ps(first(n), from);
  }
  PD_SIMD void store_n(float* to, F value, std::int64_t n) {
    _mm512_mask_storeu_ps(to, first(n), value);
  }
  PD_SIMD F load_bf16(const std::uint16_t* from) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  PD_SIMD F load_bf16_n(const std::uint16_t* from, std::int64_t n) {
    return widen(_mm256_maskz_loadu_epi16(first(n), from));
  }
  // Elements 0 and 1 of sixteen bf16 pairs.
  PD_SIMD F load_even(const void* pairs) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(pairs), 16));
  }
  PD_SIMD F load_odd(const void* pairs) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_loadu_si512(pairs), _mm512_set1_epi32(-65536)));
  }

  PD_SIMD F add(F a, F b) { return _mm512_add_ps(a, b); }
  PD_SIMD F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  PD_SIMD F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  PD_SIMD F div(F a, F b) { return _mm512_div_ps(a, b); }
  PD_SIMD F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }  // a * b + c
  // The second operand if either is NaN.
  PD_SIMD F max(F a, F b) { return _mm512_max_ps(a, b); }
  PD_SIMD F min(F a, F b) { return _mm512_min_ps(a, b); }
  PD_SIMD F round(F a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // 2^n for whole n in [-126, 128]; 2^128 is infinity.
  PD_SIMD F power_of_two(F n) {
    const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
  }
  // 0 in lanes where a < limit, value elsewhere (NaN in a keeps value).
  PD_SIMD F zero_below(F a, F limit, F value) {
    return _mm512_mask_mov_ps(value, _mm512_cmp_ps_mask(a, limit, _CMP_LT_OQ), zero());
  }
  // value in lanes [begin, end), other elsewhere; any begin and end.
  PD_SIMD F keep(F value, std::int64_t begin, std::int64_t end, F other) {
    const auto mask = static_cast<__mmask16>(first(clamp(end)) & ~first(clamp(begin)));
    return _mm512_mask_mov_ps(other, mask, value);
  }

  PD_SIMD float sum(F a) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), upper(a));
    const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
  }
  PD_SIMD float maximum(F a) {
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(a), upper(a));
    const __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    const __m128 pair = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_max_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
  }

  // rows[i][j] becomes rows[j][i].
  PD_SIMD void transpose(F (&rows)[16]) {
    F a[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {  // pairs of rows, interleaved by one lane
      a[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
      a[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // fours, interleaved by two lanes
      rows[4 * i] = unpacklo2(a[4 * i], a[4 * i + 2]);
      rows[4 * i + 1] = unpackhi2(a[4 * i], a[4 * i + 2]);
      rows[4 * i + 2] = unpacklo2(a[4 * i + 1], a[4 * i + 3]);
      rows[4 * i + 3] = unpackhi2(a[4 * i + 1], a[4 * i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // eights: quarters 0 and 2, then 1 and 3
      a[i] = _mm512_shuffle_f32x4(rows[i], rows[4 + i], 0x88);
      a[4 + i] = _mm512_shuffle_f32x4(rows[i], rows[4 + i], 0xDD);
      a[8 + i] = _mm512_shuffle_f32x4(rows[8 + i], rows[12 + i], 0x88);
      a[12 + i] = _mm512_shuffle_f32x4(rows[8 + i], rows[12 + i], 0xDD);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      rows[i] = _mm512_shuffle_f32x4(a[i], a[8 + i], 0x88);
      rows[4 + i] = _mm512_shuffle_f32x4(a[4 + i], a[12 + i], 0x88);
      rows[8 + i] = _mm512_shuffle_f32x4(a[i], a[8 + i], 0xDD);
      rows[12 + i] = _mm512_shuffle_f32x4(a[4 + i], a[12 + i], 0xDD);
    }
  }

 private:
  PD_SIMD __mmask16 first(std::int64_t n) { return static_cast<__mmask16>((1U << n) - 1U); }
  PD_SIMD std::int64_t clamp(std::int64_t n) { return n < 0 ? 0 : (n > 16 ? 16 : n); }
  PD_SIMD F widen(__m256i bf16) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16));
  }
  PD_SIMD __m256 upper(F a) { return _mm512_extractf32x8_ps(a, 1); }
  PD_SIMD F unpacklo2(F a, F b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  }
  PD_SIMD F unpackhi2(F a, F b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  }
};

#undef PD_SIMD

}  // namespace
}  // namespace pd::engine
