// Limits that an answer must keep to count as served: "ttft=500ms,tpot=50ms". Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "load/record.h"

namespace pd::load {

struct Slo {
  std::optional<double> ttft_ms, tpot_ms, e2e_ms;
  bool operator==(const Slo&) const = default;
  bool empty() const { return !ttft_ms && !tpot_ms && !e2e_ms; }
  // Only completed answers do; one of a single token has no TPOT to miss.
  bool met_by(const Record& record) const {
    return record.completed() && (!ttft_ms || record.ttft_ms <= *ttft_ms) &&
           (!e2e_ms || record.e2e_ms <= *e2e_ms) &&
           (!tpot_ms || !record.has_tpot() || record.tpot_ms() <= *tpot_ms);
  }
  // Of one that was cut short: whatever its answer would have become, it is outside a limit. Its
  // TPOT might have come right.
  bool missed_by(const Record& record) const {
    return (ttft_ms && record.ttft_ms > *ttft_ms) || (e2e_ms && record.e2e_ms > *e2e_ms);
  }
};

Result<Slo> parse_slo(std::string_view text);
std::string to_string(const Slo& slo);

}  // namespace pd::load
