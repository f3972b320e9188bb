// Exact statistics of measured values: sorted, nothing binned.
#pragma once

#include <string>
#include <vector>

namespace pd::load {

// The smallest value such that a share `q` of all are not above it (nearest rank); 0 for none.
// `sorted` is ascending, q in (0, 1].
double percentile(const std::vector<double>& sorted, double q);

// Of one figure over the rounds of a measurement.
struct Spread {
  double median = 0;
  double least = 0;
  double most = 0;
};
Spread spread(std::vector<double> values);
// "1.23 [1.10, 1.45]"
std::string to_string(const Spread& spread, int decimals);

}  // namespace pd::load
