#include "load/arrivals.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <numbers>
#include <string>

namespace pd::load {
namespace {

std::optional<double> positive_number(std::string_view text) {
  double value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  if (!(value > 0) || value > 1e6) return std::nullopt;
  return value;
}

// The next gap in units of the mean gap.
double unit_gap(const OpenArrivals& arrivals, Rng& rng) {
  switch (arrivals.law) {
    case OpenArrivals::Law::kEven:
      return 1;
    case OpenArrivals::Law::kPoisson:
      return -std::log1p(-rng.unit());
    case OpenArrivals::Law::kGamma: {
      const double shape = 1 / (arrivals.burstiness * arrivals.burstiness);
      return gamma_draw(rng, shape, 1 / shape);
    }
  }
  return 1;
}

// When `expected` arrivals are expected, in seconds: the inverse of the rate's integral. Beyond a
// falling ramp's whole: never.
double time_of(double expected, double from, double to, double length_s) {
  const double slope = length_s > 0 ? (to - from) / length_s : 0;
  if (std::abs(slope) < 1e-12) return expected / from;
  const double root = from * from + 2 * slope * expected;
  return root < 0 ? HUGE_VAL : (std::sqrt(root) - from) / slope;
}

}  // namespace

double normal_draw(Rng& rng) {
  const double radius = std::sqrt(-2 * std::log1p(-rng.unit()));
  return radius * std::cos(2 * std::numbers::pi * rng.unit());
}

double gamma_draw(Rng& rng, double shape, double scale) {
  if (shape < 1) {
    const double power = std::pow(1 - rng.unit(), 1 / shape);  // in (0, 1]
    return gamma_draw(rng, shape + 1, scale) * power;
  }
  const double d = shape - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = normal_draw(rng);
    const double base = 1 + c * x;
    if (base <= 0) continue;
    const double v = base * base * base;
    if (std::log(1 - rng.unit()) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v * scale;
  }
}

double weibull_draw(Rng& rng, double shape, double scale) {
  return scale * std::pow(-std::log1p(-rng.unit()), 1 / shape);
}

std::vector<Duration> arrival_times(const OpenArrivals& arrivals, std::optional<Duration> length,
                                    std::size_t count, Rng& rng) {
  std::vector<Duration> out;
  if (!(arrivals.rate > 0)) return out;
  const double length_s = length ? to_seconds(*length) : 0;
  const double to = arrivals.end_rate.value_or(arrivals.rate);
  double expected = 0;
  // The first of evenly spaced ones is due at once, as is the first of a burst.
  if (arrivals.law == OpenArrivals::Law::kPoisson) expected = unit_gap(arrivals, rng);
  while (out.size() < count) {
    const double at = time_of(expected, arrivals.rate, to, length_s);
    if ((length && at >= length_s) || at > 1e9) break;
    out.emplace_back(static_cast<Duration::rep>(at * 1e9));
    expected += unit_gap(arrivals, rng);
  }
  return out;
}

Result<OpenArrivals> parse_rate(std::string_view text) {
  const std::size_t colon = text.find(':');
  const auto from = positive_number(text.substr(0, colon));
  OpenArrivals out;
  if (from) out.rate = *from;
  if (from && colon == std::string_view::npos) return out;
  const auto to = colon != text.npos ? positive_number(text.substr(colon + 1)) : std::nullopt;
  if (from && to) {
    out.end_rate = to;
    return out;
  }
  return error(ErrorCode::kInvalidArgument,
               fmt::format("'{}' is not a rate: write requests per second, 12.5, or from:to for a "
                           "ramp, 1:50",
                           text));
}

}  // namespace pd::load
