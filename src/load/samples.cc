#include "load/samples.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace pd::load {

double percentile(const std::vector<double>& sorted, double q) {
  if (sorted.empty()) return 0;
  const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(sorted.size())));
  return sorted[std::clamp<std::size_t>(rank, 1, sorted.size()) - 1];
}

Spread spread(std::vector<double> values) {
  if (values.empty()) return {};
  std::ranges::sort(values);
  const std::size_t half = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
  return {median, values.front(), values.back()};
}

std::string to_string(const Spread& spread, int decimals) {
  return fmt::format("{:.{}f} [{:.{}f}, {:.{}f}]", spread.median, decimals, spread.least, decimals,
                     spread.most, decimals);
}

}  // namespace pd::load
