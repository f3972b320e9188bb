// e^x of sixteen lanes. Relative error below 2 units in the last place for results in the normal
// range; 0 below it, infinity above 88.3; e^NaN = NaN.
#pragma once

namespace pd::engine {
namespace {

// e^x = 2^n * e^r with n = round(x / ln 2), |r| <= 0.347. ln 2 is split so that n * high is exact;
// the polynomial is Cephes' expf: 1 + r + r^2 * p(r), p of degree 5, error below 2e-8 relative.
// Source: Moshier, Cephes mathematical library, expf.c.
template <class S>
[[gnu::always_inline]] inline typename S::F exponential(typename S::F given) {
  using F = typename S::F;
  const F lowest = S::set1(-87.33654F);  // ln of the smallest normal number
  // Constants first: min and max return their second operand, the NaN, if there is one.
  const F x = S::max(lowest, S::min(S::set1(88.72284F), given));
  const F n = S::round(S::mul(x, S::set1(1.44269504F)));
  F r = S::fma(n, S::set1(-0.693359375F), x);
  r = S::fma(n, S::set1(2.12194440e-4F), r);
  F p = S::set1(1.9875691500e-4F);
  p = S::fma(p, r, S::set1(1.3981999507e-3F));
  p = S::fma(p, r, S::set1(8.3334519073e-3F));
  p = S::fma(p, r, S::set1(4.1665795894e-2F));
  p = S::fma(p, r, S::set1(1.6666665459e-1F));
  p = S::fma(p, r, S::set1(5.0000001201e-1F));
  p = S::fma(p, S::mul(r, r), S::add(r, S::set1(1.0F)));
  return S::zero_below(given, lowest, S::mul(p, S::power_of_two(n)));
}

}  // namespace
}  // namespace pd::engine
