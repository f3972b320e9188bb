// Two loads beside each other: in what they differ as settings, and in figures. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "load/summary.h"

namespace pd::load {

struct Comparison {
  struct Difference {
    std::string name, a, b;  // "-": there is none
  };
  struct Figure {
    std::string name;
    std::optional<double> a, b;  // nullopt: none, as nothing was completed or no limit was set
    bool comparable = true;
    // B as a multiple of A; nullopt: of nothing, or of what is not comparable.
    std::optional<double> ratio() const {
      return comparable && a && b && *a > 0 ? std::optional(*b / *a) : std::nullopt;
    }
  };
  std::vector<Difference> differences;  // of the settings, limits included
  std::vector<Figure> figures;
  std::string remark;  // why figures are not compared; empty: all are
};

Comparison compare(const Summary& a, const Summary& b);
std::string to_text(const Comparison& comparison, std::string_view name_a, std::string_view name_b);

}  // namespace pd::load
