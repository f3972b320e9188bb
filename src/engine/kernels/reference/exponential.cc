#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "engine/kernels/reference/reference.h"

namespace pd::engine::reference {

// e^x = 2^n * e^r with |r| <= ln(2) / 2; the Taylor series to r^13 leaves r^14 / 14! < 4e-18.
double exponential(double x) {
  if (x != x) return x;
  if (x < -700.0) return 0.0;
  if (x > 700.0) return std::numeric_limits<double>::infinity();
  constexpr double kLog2E = 1.4426950408889634;
  constexpr double kLn2High = 0.693147180369123816490;  // 33 bits: n times it is exact
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  const double n = std::nearbyint(x * kLog2E);
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double term = 1.0;
  double sum = 1.0;
  for (int i = 1; i <= 13; ++i) {
    term *= r / i;
    sum += term;
  }
  const auto exponent = static_cast<std::uint64_t>(static_cast<std::int64_t>(n) + 1023);
  return sum * std::bit_cast<double>(exponent << 52);
}

}  // namespace pd::engine::reference
