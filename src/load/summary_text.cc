// Summaries as a table and as JSON: declared in summary.h.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/printable.h"
#include "load/summary.h"

namespace pd::load {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "pdserve bench serve 3";

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

std::string request_lines(const Summary& s) {
  const std::string pace = s.sending_s > 0 ? fmt::format("over {:.1f} s of sending ({:.2f}/s)",
                                                         s.sending_s, s.offered_rate())
                                           : "at once";
  std::string out =
      fmt::format("requests      {} offered {}: {} completed, {} rejected, {} failed{}\n",
                  s.offered, pace, s.completed, s.rejected, s.failed,
                  s.timed_out > 0 ? fmt::format(" ({} of them given up)", s.timed_out) : "");
  if (s.unfinished > 0) {
    out += fmt::format(
        "unfinished    {} of them were under way when the load was stopped{}\n", s.unfinished,
        s.slo.empty() ? ""
                      : fmt::format(": {} had passed a limit and count as missed, {} count "
                                    "neither way",
                                    s.unfinished - s.undecided, s.undecided));
  }
  out += fmt::format(
      "throughput    {:.2f} requests/s, {:.1f} output tokens/s, {} prompt tokens/s, over the "
      "{:.1f} s to the last answer\n",
      s.rate(s.completed), s.rate(s.output_tokens),
      s.prompt_rate() ? fmt::format("{:.1f}", *s.prompt_rate()) : "-", s.length_s);
  if (s.without_usage > 0) {
    out += fmt::format(
        "no usage      {} of the {} completed do not say how many tokens they are: those of their "
        "output are\n              pieces of text, in TPOT too, and those of the prompts are "
        "unknown\n",
        s.without_usage, s.completed);
  }
  if (!s.slo.empty()) {
    const auto share = s.goodput_share();
    out += fmt::format(
        "goodput       {:.2f} requests/s over the same time; {} % of {} are within {}\n",
        s.rate(s.within_slo), share ? fmt::format("{:.1f}", 100 * *share) : "-",
        s.undecided == 0
            ? "those offered"
            : fmt::format("the {} offered whose outcome is known", s.offered - s.undecided),
        to_string(s.slo));
  }
  if (s.cached_tokens > 0) {
    out += fmt::format("prefix cache  {} of prompt tokens\n",
                       s.cached_share() ? fmt::format("{:.1f} %", 100 * *s.cached_share()) : "-");
  }
  return out;
}

// The most frequent first; those that are not kept are at least counted.
std::string error_lines(const Summary& s) {
  std::vector<std::pair<std::string, std::uint64_t>> sorted(s.errors.begin(), s.errors.end());
  std::ranges::stable_sort(sorted, std::greater{}, &std::pair<std::string, std::uint64_t>::second);
  std::uint64_t others = s.unanswered();
  std::string out = sorted.empty() ? "" : "\n";
  for (const auto& [message, count] : sorted) {
    out += fmt::format("{:>8} x  {}\n", count, printable(message));
    others -= std::min(others, count);
  }
  if (!sorted.empty() && others > 0) out += fmt::format("{:>8} x  other messages\n", others);
  return out;
}

}  // namespace

std::string to_table(const Summary& s) {
  std::string out;
  for (const auto& [name, value] : s.setting)
    out += fmt::format("{:<14}{}\n", name, printable(value));
  out += '\n';
  if (s.mostly_refused()) {
    out += fmt::format(
        "refused       {} of {} requests, with HTTP 4xx: this load does not fit this server. The "
        "first:\n              {}\n",
        s.refused, s.offered, printable(s.first_error));
  }
  out += request_lines(s);
  out += fmt::format("\n{:<14}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}\n", "ms", "mean", "p50",
                     "p90", "p95", "p99", "p99.9", "max");
  out += row("TTFT", s.ttft) + row("TPOT", s.tpot) + row("ITL", s.itl) + row("E2E", s.e2e) +
         row("sent late", s.late);
  if (s.unanswered() > 0) {
    out += fmt::format(
        "TTFT to E2E are of the {} completed: the {} rejected or failed have none{}.\n",
        s.completed, s.unanswered(), s.slo.empty() ? "" : " and count as outside the limits");
  }
  return out + error_lines(s);
}

std::string to_json(const Summary& s) {
  Json json{{"format", kFormat}, {"setting", s.setting}};
  json["slo_ms"] = {{"ttft", limit_of(s.slo.ttft_ms)},
                    {"tpot", limit_of(s.slo.tpot_ms)},
                    {"e2e", limit_of(s.slo.e2e_ms)}};
  json["sending_s"] = s.sending_s;
  json["length_s"] = s.length_s;
  json["requests"] = {{"offered", s.offered},     {"completed", s.completed},
                      {"rejected", s.rejected},   {"failed", s.failed},
                      {"timed_out", s.timed_out}, {"unfinished", s.unfinished},
                      {"undecided", s.undecided}, {"within_slo", s.within_slo},
                      {"accepted", s.accepted},   {"refused", s.refused}};
  const auto within = s.slo.empty() ? std::nullopt : s.goodput_share();
  json["within_slo_share"] = within ? Json(*within) : Json();
  json["tokens"] = {{"prompt", s.prompt_tokens},
                    {"cached", s.cached_tokens},
                    {"output", s.output_tokens},
                    {"without_usage", s.without_usage}};
  json["per_second"] = {{"offered", s.offered_rate()},
                        {"requests", s.rate(s.completed)},
                        {"goodput", s.slo.empty() ? Json() : Json(s.rate(s.within_slo))},
                        {"output_tokens", s.rate(s.output_tokens)}};
  json["ttft_ms"] = json_of(s.ttft);
  json["tpot_ms"] = json_of(s.tpot);
  json["itl_ms"] = json_of(s.itl);
  json["e2e_ms"] = json_of(s.e2e);
  json["late_ms"] = json_of(s.late);
  json["errors"] = s.errors;
  json["first_error"] = s.first_error;
  Json seconds = Json::array();
  for (const Second& second : s.seconds)
    seconds.push_back({second.offered, second.completed, second.within_slo, second.rejected,
                       second.failed, second.accepted, second.output_tokens});
  json["seconds_columns"] = {"offered", "completed", "within_slo",   "rejected",
                             "failed",  "accepted",  "output_tokens"};
  json["seconds"] = std::move(seconds);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Summary> read_summary(std::string_view text, std::string_view name) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_object() && json.contains("format") && json["format"] != kFormat) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{} is of another version of bench serve: measure again", name));
  }
  Summary s;
  try {
    s.setting = json.at("setting").get<std::map<std::string, std::string>>();
    s.slo = {limit_in(json.at("slo_ms"), "ttft"), limit_in(json.at("slo_ms"), "tpot"),
             limit_in(json.at("slo_ms"), "e2e")};
    s.sending_s = json.at("sending_s");
    s.length_s = json.at("length_s");
    const Json& requests = json.at("requests");
    s.offered = requests.at("offered");
    s.completed = requests.at("completed");
    s.rejected = requests.at("rejected");
    s.failed = requests.at("failed");
    s.timed_out = requests.at("timed_out");
    s.unfinished = requests.at("unfinished");
    s.undecided = requests.at("undecided");
    s.within_slo = requests.at("within_slo");
    s.accepted = requests.at("accepted");
    s.refused = requests.at("refused");
    s.prompt_tokens = json.at("tokens").at("prompt");
    s.cached_tokens = json.at("tokens").at("cached");
    s.output_tokens = json.at("tokens").at("output");
    s.without_usage = json.at("tokens").at("without_usage");
    s.ttft = distribution_in(json.at("ttft_ms"));
    s.tpot = distribution_in(json.at("tpot_ms"));
    s.itl = distribution_in(json.at("itl_ms"));
    s.e2e = distribution_in(json.at("e2e_ms"));
    s.late = distribution_in(json.at("late_ms"));
    s.errors = json.at("errors").get<std::map<std::string, std::uint64_t>>();
    s.first_error = json.at("first_error");
    for (const Json& row : json.at("seconds"))
      s.seconds.push_back(
          {row.at(0), row.at(1), row.at(2), row.at(3), row.at(4), row.at(5), row.at(6)});
  } catch (const Json::exception&) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: not a summary that bench serve has written with --json", name));
  }
  return s;
}

}  // namespace pd::load
