#include "load/report_page.h"

#include <nlohmann/json.hpp>
#include <string_view>

namespace pd::load {
namespace {

constexpr std::string_view kPage =
#include "load/report_page.html.inc"
    ;
constexpr std::string_view kMark = "/*DATA*/";

}  // namespace

std::string report_page(const std::vector<NamedSummary>& summaries) {
  auto data = nlohmann::ordered_json::array();
  for (const NamedSummary& named : summaries)
    data.push_back(
        {{"name", named.name}, {"summary", nlohmann::ordered_json::parse(to_json(named.summary))}});
  std::string json = data.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  // An error message of a server must not be able to end the script it is quoted in.
  for (std::size_t at = 0; (at = json.find('<', at)) != json.npos;) json.replace(at, 1, "\\u003c");
  std::string page(kPage);
  return page.replace(page.find(kMark), kMark.size(), json);
}

}  // namespace pd::load
