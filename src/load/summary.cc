#include "load/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "load/samples.h"

namespace pd::load {
namespace {

constexpr std::size_t kQuantiles = 200;
constexpr std::size_t kErrorsMax = 10;
constexpr double kSecondsMax = 100'000;  // of the timeline: more than a day

std::map<std::string, std::uint64_t> most_frequent(std::map<std::string, std::uint64_t> all) {
  std::vector<std::pair<std::string, std::uint64_t>> sorted(all.begin(), all.end());
  std::ranges::stable_sort(sorted, std::greater{}, &std::pair<std::string, std::uint64_t>::second);
  if (sorted.size() > kErrorsMax) sorted.resize(kErrorsMax);
  return {sorted.begin(), sorted.end()};
}

Second& second_at(std::vector<Second>& seconds, double at) {
  const auto index = static_cast<std::size_t>(std::clamp(at, 0.0, kSecondsMax));
  if (index >= seconds.size()) seconds.resize(index + 1);
  return seconds[index];
}

// The answer's tokens between its first and its last moment, in the seconds they fall into.
void spread_tokens(std::vector<Second>& seconds, const Record& record) {
  const double from = record.due_s + record.ttft_ms / 1000;
  const double to = std::max(record.due_s + record.e2e_ms / 1000, from + 1e-9);
  for (double at = from; at < to;) {
    const double end = std::min(std::floor(at) + 1, to);
    second_at(seconds, at).output_tokens += record.output_tokens * (end - at) / (to - from);
    at = end;
  }
}

// Adds a request to all sums.
void count(Summary& out, const Record& record) {
  Second& second = second_at(out.seconds, record.due_s);
  ++out.offered;
  ++second.offered;
  out.sending_s = std::max(out.sending_s, record.due_s);
  out.accepted += record.accepted() ? 1 : 0;
  second.accepted += record.accepted() ? 1 : 0;
  if (record.outcome == Record::Outcome::kUnfinished) {
    ++out.unfinished;
    out.undecided += out.slo.missed_by(record) ? 0 : 1;
    out.length_s = std::max(out.length_s, record.due_s + record.e2e_ms / 1000);
    return;
  }
  if (!record.completed()) {
    const bool rejected = record.outcome == Record::Outcome::kRejected;
    ++(rejected ? out.rejected : out.failed);
    ++(rejected ? second.rejected : second.failed);
    out.timed_out += record.outcome == Record::Outcome::kTimedOut ? 1 : 0;
    out.refused += record.refused() ? 1 : 0;
    return;
  }
  const bool within = out.slo.met_by(record);
  ++out.completed;
  ++second.completed;
  out.within_slo += within ? 1 : 0;
  second.within_slo += within ? 1 : 0;
  out.length_s = std::max(out.length_s, record.due_s + record.e2e_ms / 1000);
  out.prompt_tokens += record.prompt_tokens;
  out.cached_tokens += record.cached_tokens;
  out.output_tokens += record.output_tokens;
  out.without_usage += record.has_usage ? 0 : 1;
}

}  // namespace

Distribution distribution_of(std::vector<double> values) {
  Distribution out;
  if (values.empty()) return out;
  std::ranges::sort(values);
  out.count = values.size();
  out.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(out.count);
  out.least = values.front();
  out.most = values.back();
  out.p50 = percentile(values, 0.5);
  out.p90 = percentile(values, 0.9);
  out.p95 = percentile(values, 0.95);
  out.p99 = percentile(values, 0.99);
  out.p999 = percentile(values, 0.999);
  for (std::size_t i = 0; i <= kQuantiles; ++i)
    out.quantiles.push_back(percentile(values, static_cast<double>(i) / kQuantiles));
  return out;
}

Summary summarize(const std::vector<Record>& records, const Slo& slo,
                  std::map<std::string, std::string> setting, double sending_s) {
  Summary out;
  out.setting = std::move(setting);
  out.slo = slo;
  out.sending_s = sending_s;
  std::vector<double> ttft, tpot, itl, e2e, late;
  std::map<std::string, std::uint64_t> errors;
  const Record* first_error = nullptr;
  for (const Record& record : records) {
    count(out, record);
    late.push_back((record.sent_s - record.due_s) * 1000);
    if (record.outcome == Record::Outcome::kUnfinished) continue;
    if (!record.completed()) {
      ++errors[record.error];
      if (first_error == nullptr || record.index < first_error->index) first_error = &record;
      continue;
    }
    ttft.push_back(record.ttft_ms);
    e2e.push_back(record.e2e_ms);
    if (record.has_tpot()) tpot.push_back(record.tpot_ms());
    itl.insert(itl.end(), record.itl_ms.begin(), record.itl_ms.end());
    spread_tokens(out.seconds, record);
  }
  out.length_s = std::max(out.length_s, out.sending_s);
  if (first_error != nullptr) out.first_error = first_error->error;
  out.errors = most_frequent(std::move(errors));
  out.ttft = distribution_of(std::move(ttft));
  out.tpot = distribution_of(std::move(tpot));
  out.itl = distribution_of(std::move(itl));
  out.e2e = distribution_of(std::move(e2e));
  out.late = distribution_of(std::move(late));
  return out;
}

}  // namespace pd::load
