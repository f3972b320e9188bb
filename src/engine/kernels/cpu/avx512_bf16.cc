// Compiled as avx512.cc and with -mavx512bf16; see kernels.h on what this file must not do.
#include "engine/kernels/cpu/simd_avx512.h"
// After the instructions that they are written over:
#include "engine/kernels/cpu/attention.h"
#include "engine/kernels/cpu/elementwise.h"
#include "engine/kernels/cpu/linear.h"
#include "engine/kernels/reference/reference.h"
#include "engine/kernels/tables.h"

namespace pd::engine {
namespace {

// x bf16, w [k / 2][16][2] bf16: vdpbf16ps adds both products of a pair to an f32, denormals as 0.
struct Bf16Pairs {
  static constexpr std::int64_t kStep = 2;
  template <class S, int R, int T>
  [[gnu::always_inline]] static inline void step(const BlockArgs& args, std::int64_t k,
                                                 __m512 (&acc)[R][T]) {
    __m512bh x[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      x[r] = reinterpret_cast<__m512bh>(
          _mm512_set1_epi32(static_cast<const std::int32_t*>(args.x[r])[k]));
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const auto w =
          reinterpret_cast<__m512bh>(_mm512_loadu_si512(args.w + t * args.tile_bytes + k * 64));
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r][t] = _mm512_dpbf16_ps(acc[r][t], x[r], w);
    }
  }
};

void linear_bf16(const LinearArgs& args, std::int64_t tile_begin, std::int64_t tile_end) {
  if (args.w.type == WeightType::kF32)
    return linear_over<Avx512, F32Weights>(args, tile_begin, tile_end);
  linear_over<Avx512, Bf16Pairs>(args, tile_begin, tile_end);
}

void to_bf16(const float* x, std::int64_t size, std::uint16_t* out) {
  std::int64_t i = 0;
  for (; i + 16 <= size; i += 16) {
    const auto rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(x + i)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), rounded);
  }
  if (i < size) {
    const auto mask = static_cast<__mmask16>((1U << (size - i)) - 1U);
    const auto rounded =
        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x + i)));
    _mm256_mask_storeu_epi16(out + i, mask, rounded);
  }
}

}  // namespace

constinit const Kernels kAvx512Bf16Kernels{
    .name = "avx512_bf16",
    .keeps_f32 = false,
    .multiplies_bf16 = true,
    .linear = linear_bf16,
    .attention = attention<Avx512>,
    .rms_norm = rms_norm<Avx512>,
    .rope = reference::rope,
    .silu_mul = silu_mul<Avx512>,
    .add = reference::add,
    .embed = reference::embed,
    .store_kv = reference::store_kv,
    .to_bf16 = to_bf16,
};

}  // namespace pd::engine
