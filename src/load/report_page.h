// A load's summary as one HTML page that needs nothing else: plots, tables, the figures themselves.
#pragma once

#include <string>
#include <vector>

#include "load/summary.h"

namespace pd::load {

// Of one load, or of two beside each other; each with a name. Long timelines
// are drawn as means of some seconds each.
struct NamedSummary {
  std::string name;
  Summary summary;
};
std::string report_page(const std::vector<NamedSummary>& summaries);

}  // namespace pd::load
