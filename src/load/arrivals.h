// When requests are due. Pure: the same description and seed give the same times.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/rng.h"
#include "base/time.h"

namespace pd::load {

// A draw of mean `shape` * `scale` (Marsaglia and Tsang 2000), of the Weibull law, of N(0, 1).
double gamma_draw(Rng& rng, double shape, double scale);
double weibull_draw(Rng& rng, double shape, double scale);
double normal_draw(Rng& rng);

struct OpenArrivals {
  enum class Law {
    kPoisson,
    kEven,   // one every 1/rate
    kGamma,  // gaps with coefficient of variation `burstiness`: above 1 comes in bursts
  };
  Law law = Law::kPoisson;
  double rate = 1;                 // requests per second at the start
  std::optional<double> end_rate;  // and at the end of `length`, changing evenly in between
  double burstiness = 1;           // of kGamma
};

// The times from 0 on, below `length`, at most `count`, ascending. Empty for rates that are not
// positive. A ramp needs a length.
std::vector<Duration> arrival_times(const OpenArrivals& arrivals, std::optional<Duration> length,
                                    std::size_t count, Rng& rng);

// "12.5", "1:50" (a ramp).
Result<OpenArrivals> parse_rate(std::string_view text);

}  // namespace pd::load
