#include "load/report_page.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "load/comparison.h"

namespace pd::load {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kPage =
#include "load/report_page.html.inc"
    ;
constexpr std::string_view kMark = "/*DATA*/";
// Of a timeline: more than a screen has columns, and a day still is a page of a few 100 kB.
constexpr std::size_t kRowsMax = 2000;

// `seconds` in rows of `row_s` seconds each: sums, so that nothing is lost.
std::vector<Second> rows_of(const std::vector<Second>& seconds, std::size_t row_s) {
  std::vector<Second> out((seconds.size() + row_s - 1) / row_s);
  for (std::size_t i = 0; i < seconds.size(); ++i) {
    Second& row = out[i / row_s];
    row.offered += seconds[i].offered;
    row.completed += seconds[i].completed;
    row.within_slo += seconds[i].within_slo;
    row.rejected += seconds[i].rejected;
    row.failed += seconds[i].failed;
    row.accepted += seconds[i].accepted;
    row.output_tokens += seconds[i].output_tokens;
  }
  return out;
}

Json run_of(const NamedSummary& named) {
  Summary shown = named.summary;
  const std::size_t row_s =
      std::max<std::size_t>((shown.seconds.size() + kRowsMax - 1) / kRowsMax, 1);
  shown.seconds = rows_of(shown.seconds, row_s);
  return {{"name", named.name},
          {"row_s", row_s},
          {"mostly_refused", shown.mostly_refused()},
          {"summary", Json::parse(to_json(shown))}};
}

Json comparison_of(const std::vector<NamedSummary>& summaries) {
  if (summaries.size() != 2) return nullptr;
  const Comparison both = compare(summaries[0].summary, summaries[1].summary);
  Json out{{"remark", both.remark}, {"differences", Json::array()}, {"figures", Json::array()}};
  for (const auto& [name, a, b] : both.differences) out["differences"].push_back({name, a, b});
  for (const Comparison::Figure& figure : both.figures) {
    const auto json = [](std::optional<double> value) { return value ? Json(*value) : Json(); };
    out["figures"].push_back({figure.name, json(figure.a), json(figure.b), json(figure.ratio())});
  }
  return out;
}

}  // namespace

std::string report_page(const std::vector<NamedSummary>& summaries) {
  Json data{{"runs", Json::array()}, {"comparison", comparison_of(summaries)}};
  for (const NamedSummary& named : summaries) data["runs"].push_back(run_of(named));
  std::string json = data.dump(-1, ' ', false, Json::error_handler_t::replace);
  // An error message of a server must not be able to end the script it is quoted in.
  for (std::size_t at = 0; (at = json.find('<', at)) != json.npos;) json.replace(at, 1, "\\u003c");
  std::string page(kPage);
  return page.replace(page.find(kMark), kMark.size(), json);
}

}  // namespace pd::load
