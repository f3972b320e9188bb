#include "numerics/error_bounds.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <fstream>
#include <limits>

#include "base/check.h"

namespace pd::numerics {

ProgramErrors errors_of(std::string_view model, std::string_view program) {
  std::ifstream file(PD_SOURCE_DIR "/tests/data/reference/errors.md");
  const std::string start = fmt::format("| {} | {} | ", model, program);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(start)) continue;
    ProgramErrors out;
    double flips = 0.0;
    double steps = 0.0;
    CHECK(std::sscanf(line.c_str() + start.size(), "%lf | %lf | %lf | %lf of %lf | %lf", &out.max,
                      &out.median, &out.rms, &flips, &steps, &out.gap) == 6);
    out.flip_share = steps > 0 ? flips / steps : 0.0;
    return out;
  }
  fmt::print(stderr, "tests/data/reference/errors.md has no row for {}, {}\n", model, program);
  CHECK(false);
}

// Both sides of the comparison err as the drawn runs do.
Errors f32_bound(std::string_view model) {
  const ProgramErrors drawn = errors_of(model, "drawn f32 errors");
  return {.max = 2 * drawn.max,
          .median = 2 * drawn.median,
          .rms = std::numeric_limits<double>::infinity()};
}

// Another order of the same sums turns some roundings the other way: another draw.
Errors bf16_bound(std::string_view model, std::string_view program) {
  const ProgramErrors rounded = errors_of(model, program);
  return {.max = 2 * rounded.max, .median = 1.5 * rounded.median, .rms = 1.5 * rounded.rms};
}

}  // namespace pd::numerics
