// Summaries as a table, as JSON and beside each other: declared in summary.h.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "load/summary.h"

namespace pd::load {
namespace {

using Json = nlohmann::ordered_json;

std::string row(std::string_view name, const Distribution& d) {
  if (d.count == 0) return fmt::format("{:<14}{:>10}\n", name, "-");
  return fmt::format("{:<14}{:>10.2f}{:>10.2f}{:>10.2f}{:>10.2f}{:>10.2f}{:>10.2f}{:>10.2f}\n",
                     name, d.mean, d.p50, d.p90, d.p95, d.p99, d.p999, d.most);
}

Json json_of(const Distribution& d) {
  return {{"count", d.count}, {"mean", d.mean},
          {"min", d.least},   {"p50", d.p50},
          {"p90", d.p90},     {"p95", d.p95},
          {"p99", d.p99},     {"p999", d.p999},
          {"max", d.most},    {"quantiles", d.quantiles}};
}

Distribution distribution_in(const Json& json) {
  Distribution d;
  d.count = json.at("count");
  d.mean = json.at("mean");
  d.least = json.at("min");
  d.p50 = json.at("p50");
  d.p90 = json.at("p90");
  d.p95 = json.at("p95");
  d.p99 = json.at("p99");
  d.p999 = json.at("p999");
  d.most = json.at("max");
  d.quantiles = json.at("quantiles").get<std::vector<double>>();
  return d;
}

Json limit_of(const std::optional<double>& limit) { return limit ? Json(*limit) : Json(); }

std::optional<double> limit_in(const Json& json, const char* key) {
  const Json& limit = json.at(key);
  return limit.is_number() ? std::optional(limit.get<double>()) : std::nullopt;
}

}  // namespace

std::string to_table(const Summary& s) {
  std::string out;
  for (const auto& [name, value] : s.setting) out += fmt::format("{:<14}{}\n", name, value);
  out += fmt::format(
      "\nrequests      {} offered in {:.1f} s ({:.2f}/s): {} completed, {} rejected, {} failed{}\n",
      s.offered, s.length_s, s.rate(s.offered), s.completed, s.rejected, s.failed,
      s.timed_out > 0 ? fmt::format(" ({} of them given up)", s.timed_out) : "");
  if (s.unfinished > 0)
    out += fmt::format(
        "unfinished    {} were under way when the load was stopped; they count "
        "nowhere\n",
        s.unfinished);
  out += fmt::format(
      "throughput    {:.2f} requests/s, {:.1f} output tokens/s, {:.1f} prompt "
      "tokens/s\n",
      s.rate(s.completed), s.rate(s.output_tokens), s.rate(s.prompt_tokens));
  if (s.cached_tokens > 0)
    out += fmt::format("prefix cache  {:.1f} % of prompt tokens\n",
                       100 * s.share(s.cached_tokens, s.prompt_tokens));
  if (!s.slo.empty())
    out +=
        fmt::format("goodput       {:.2f} requests/s, {:.1f} % of those offered are within {}\n",
                    s.rate(s.within_slo), 100 * s.share(s.within_slo, s.offered), to_string(s.slo));
  out += fmt::format("\n{:<14}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}\n", "ms", "mean", "p50",
                     "p90", "p95", "p99", "p99.9", "max");
  out += row("TTFT", s.ttft) + row("TPOT", s.tpot) + row("ITL", s.itl) + row("E2E", s.e2e) +
         row("sent late", s.late);
  if (!s.errors.empty()) out += '\n';
  for (const auto& [message, count] : s.errors) out += fmt::format("{:>8} x  {}\n", count, message);
  return out;
}

std::string to_json(const Summary& s) {
  Json json{{"format", "pdserve bench serve 1"}, {"setting", s.setting}};
  json["slo_ms"] = {{"ttft", limit_of(s.slo.ttft_ms)},
                    {"tpot", limit_of(s.slo.tpot_ms)},
                    {"e2e", limit_of(s.slo.e2e_ms)}};
  json["length_s"] = s.length_s;
  json["requests"] = {{"offered", s.offered},      {"completed", s.completed},
                      {"rejected", s.rejected},    {"failed", s.failed},
                      {"timed_out", s.timed_out},  {"unfinished", s.unfinished},
                      {"within_slo", s.within_slo}};
  json["tokens"] = {
      {"prompt", s.prompt_tokens}, {"cached", s.cached_tokens}, {"output", s.output_tokens}};
  json["per_second"] = {{"requests", s.rate(s.completed)},
                        {"goodput", s.rate(s.within_slo)},
                        {"output_tokens", s.rate(s.output_tokens)}};
  json["ttft_ms"] = json_of(s.ttft);
  json["tpot_ms"] = json_of(s.tpot);
  json["itl_ms"] = json_of(s.itl);
  json["e2e_ms"] = json_of(s.e2e);
  json["late_ms"] = json_of(s.late);
  json["errors"] = s.errors;
  Json seconds = Json::array();
  for (const Second& second : s.seconds)
    seconds.push_back({second.offered, second.completed, second.within_slo, second.rejected,
                       second.failed, second.output_tokens});
  json["seconds_columns"] = {"offered",  "completed", "within_slo",
                             "rejected", "failed",    "output_tokens"};
  json["seconds"] = std::move(seconds);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Summary> read_summary(std::string_view text, std::string_view name) {
  const Json json = Json::parse(text, nullptr, false);
  Summary s;
  try {
    s.setting = json.at("setting").get<std::map<std::string, std::string>>();
    s.slo = {limit_in(json.at("slo_ms"), "ttft"), limit_in(json.at("slo_ms"), "tpot"),
             limit_in(json.at("slo_ms"), "e2e")};
    s.length_s = json.at("length_s");
    const Json& requests = json.at("requests");
    s.offered = requests.at("offered");
    s.completed = requests.at("completed");
    s.rejected = requests.at("rejected");
    s.failed = requests.at("failed");
    s.timed_out = requests.at("timed_out");
    s.unfinished = requests.at("unfinished");
    s.within_slo = requests.at("within_slo");
    s.prompt_tokens = json.at("tokens").at("prompt");
    s.cached_tokens = json.at("tokens").at("cached");
    s.output_tokens = json.at("tokens").at("output");
    s.ttft = distribution_in(json.at("ttft_ms"));
    s.tpot = distribution_in(json.at("tpot_ms"));
    s.itl = distribution_in(json.at("itl_ms"));
    s.e2e = distribution_in(json.at("e2e_ms"));
    s.late = distribution_in(json.at("late_ms"));
    s.errors = json.at("errors").get<std::map<std::string, std::uint64_t>>();
    for (const Json& row : json.at("seconds"))
      s.seconds.push_back({row.at(0), row.at(1), row.at(2), row.at(3), row.at(4), row.at(5)});
  } catch (const Json::exception&) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: not a summary that bench serve has written with --json", name));
  }
  return s;
}

std::string compare(const Summary& a, const Summary& b, std::string_view name_a,
                    std::string_view name_b) {
  std::string out = fmt::format("A  {}\nB  {}\n", name_a, name_b);
  for (const auto& [name, value] : a.setting) {
    const auto other = b.setting.find(name);
    const std::string there = other == b.setting.end() ? "-" : other->second;
    if (there != value) out += fmt::format("   {}: A {}, B {}\n", name, value, there);
  }
  out += fmt::format("\n{:<28}{:>14}{:>14}{:>10}\n", "", "A", "B", "B / A");
  const auto line = [&out](std::string_view name, double x, double y) {
    const std::string ratio = x > 0 ? fmt::format("{:.3f}", y / x) : "-";
    out += fmt::format("{:<28}{:>14.3f}{:>14.3f}{:>10}\n", name, x, y, ratio);
  };
  line("requests/s completed", a.rate(a.completed), b.rate(b.completed));
  if (!a.slo.empty() && !b.slo.empty()) {
    line("goodput, requests/s", a.rate(a.within_slo), b.rate(b.within_slo));
    line("within SLO, %", 100 * a.share(a.within_slo, a.offered),
         100 * b.share(b.within_slo, b.offered));
  }
  line("completed, %", 100 * a.share(a.completed, a.offered),
       100 * b.share(b.completed, b.offered));
  line("rejected, %", 100 * a.share(a.rejected, a.offered), 100 * b.share(b.rejected, b.offered));
  line("failed, %", 100 * a.share(a.failed, a.offered), 100 * b.share(b.failed, b.offered));
  line("output tokens/s", a.rate(a.output_tokens), b.rate(b.output_tokens));
  line("prompt tokens cached, %", 100 * a.share(a.cached_tokens, a.prompt_tokens),
       100 * b.share(b.cached_tokens, b.prompt_tokens));
  const auto lines = [&line](std::string_view name, const Distribution& x, const Distribution& y) {
    line(fmt::format("{} p50, ms", name), x.p50, y.p50);
    line(fmt::format("{} p90, ms", name), x.p90, y.p90);
    line(fmt::format("{} p99, ms", name), x.p99, y.p99);
  };
  lines("TTFT", a.ttft, b.ttft);
  lines("TPOT", a.tpot, b.tpot);
  lines("ITL", a.itl, b.itl);
  lines("E2E", a.e2e, b.e2e);
  return out;
}

}  // namespace pd::load
