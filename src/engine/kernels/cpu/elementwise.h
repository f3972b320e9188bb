// Root mean square norm and gated activation of one row.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "engine/kernels/cpu/exponential.h"

namespace pd::engine {
namespace {

// Sixteen partial sums, lane i over the elements i, i + 16, ...; then the tree of S::sum.
template <class S>
void rms_norm(const float* x, const float* weight, float eps, std::int64_t size, float* out) {
  typename S::F squares = S::zero();
  const std::int64_t whole = size / 16 * 16;
  for (std::int64_t i = 0; i < whole; i += 16) {
    const typename S::F v = S::load(x + i);
    squares = S::fma(v, v, squares);
  }
  if (whole < size) {
    const typename S::F v = S::load_n(x + whole, size - whole);
    squares = S::fma(v, v, squares);
  }
  const float mean = S::sum(squares) / static_cast<float>(size);
  const typename S::F inverse = S::set1(1.0F / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean + eps))));
  for (std::int64_t i = 0; i < whole; i += 16)
    S::store(out + i, S::mul(S::load(weight + i), S::mul(S::load(x + i), inverse)));
  if (whole < size) {
    const std::int64_t n = size - whole;
    const typename S::F v = S::mul(S::load_n(x + whole, n), inverse);
    S::store_n(out + whole, S::mul(S::load_n(weight + whole, n), v), n);
  }
}

template <class S>
[[gnu::always_inline]] inline typename S::F silu_mul_16(typename S::F gate, typename S::F up) {
  const typename S::F e = exponential<S>(S::sub(S::zero(), gate));
  return S::mul(S::div(gate, S::add(S::set1(1.0F), e)), up);
}

template <class S>
void silu_mul(const float* gate, const float* up, std::int64_t size, float* out) {
  const std::int64_t whole = size / 16 * 16;
  for (std::int64_t i = 0; i < whole; i += 16)
    S::store(out + i, silu_mul_16<S>(S::load(gate + i), S::load(up + i)));
  if (whole < size) {
    const std::int64_t n = size - whole;
    S::store_n(out + whole, silu_mul_16<S>(S::load_n(gate + whole, n), S::load_n(up + whole, n)),
               n);
  }
}

}  // namespace
}  // namespace pd::engine
