#include "load/comparison.h"

#include <fmt/format.h>

#include <set>

#include "base/printable.h"

namespace pd::load {
namespace {

std::vector<Comparison::Difference> differences(const Summary& a, const Summary& b) {
  std::vector<Comparison::Difference> out;
  const auto add = [&out](std::string_view name, std::string_view x, std::string_view y) {
    const auto shown = [](std::string_view text) { return std::string(text.empty() ? "-" : text); };
    if (x != y) out.push_back({std::string(name), shown(x), shown(y)});
  };
  std::set<std::string_view> names;
  for (const auto* setting : {&a.setting, &b.setting})
    for (const auto& [name, value] : *setting) names.insert(name);
  const auto value_in = [](const Summary& s, std::string_view name) {
    const auto found = s.setting.find(std::string(name));
    return found == s.setting.end() ? std::string() : found->second;
  };
  for (const std::string_view name : names) add(name, value_in(a, name), value_in(b, name));
  add("limits (--slo)", to_string(a.slo), to_string(b.slo));
  return out;
}

void add_percentiles(Comparison& out, std::string_view name, const Distribution& a,
                     const Distribution& b) {
  const auto add = [&](const char* percent, double Distribution::* value) {
    const auto of = [value](const Distribution& d) {
      return d.count > 0 ? std::optional(d.*value) : std::nullopt;
    };
    out.figures.push_back({fmt::format("{} {}, ms", name, percent), of(a), of(b)});
  };
  add("p50", &Distribution::p50);
  add("p90", &Distribution::p90);
  add("p99", &Distribution::p99);
}

}  // namespace

Comparison compare(const Summary& a, const Summary& b) {
  Comparison out;
  out.differences = differences(a, b);
  const auto add = [&out](const char* name, std::optional<double> x, std::optional<double> y,
                          bool comparable = true) {
    out.figures.push_back({name, x, y, comparable});
  };
  const auto percent = [](const Summary& s, std::uint64_t part) {
    return 100 * s.share(part, s.offered);
  };
  add("offered, requests/s", a.offered_rate(), b.offered_rate());
  add("requests/s completed", a.rate(a.completed), b.rate(b.completed));
  if (!a.slo.empty() || !b.slo.empty()) {
    const bool same = a.slo == b.slo;
    // A load without limits has no goodput.
    const auto of = [](const Summary& s, std::optional<double> value) {
      return s.slo.empty() ? std::nullopt : value;
    };
    const auto within = [](const Summary& s) {
      return s.goodput_share().transform([](double share) { return 100 * share; });
    };
    add("goodput, requests/s", of(a, a.rate(a.within_slo)), of(b, b.rate(b.within_slo)), same);
    add("within limits, %", of(a, within(a)), of(b, within(b)), same);
    if (!same) {
      out.remark =
          "Goodput is not compared: the limits differ, and each load's goodput is of its own. "
          "Measure one of them again with the other's --slo.";
    }
  }
  add("completed, %", percent(a, a.completed), percent(b, b.completed));
  add("rejected, %", percent(a, a.rejected), percent(b, b.rejected));
  add("failed, %", percent(a, a.failed), percent(b, b.failed));
  if (a.unfinished + b.unfinished > 0)
    add("unfinished, %", percent(a, a.unfinished), percent(b, b.unfinished));
  const bool pieces = a.without_usage + b.without_usage > 0;
  add("output tokens/s", a.rate(a.output_tokens), b.rate(b.output_tokens), !pieces);
  const auto cached = [](const Summary& s) {
    return s.cached_share().transform([](double share) { return 100 * share; });
  };
  add("prompt tokens cached, %", cached(a), cached(b));
  if (pieces) {
    out.remark += fmt::format(
        "{}Output tokens are not compared: a server does not say how many there are (A: {} "
        "answers, "
        "B: {}), and pieces of text are counted instead, in TPOT too.",
        out.remark.empty() ? "" : " ", a.without_usage, b.without_usage);
  }
  add_percentiles(out, "TTFT", a.ttft, b.ttft);
  add_percentiles(out, "TPOT", a.tpot, b.tpot);
  add_percentiles(out, "ITL", a.itl, b.itl);
  add_percentiles(out, "E2E", a.e2e, b.e2e);
  return out;
}

std::string to_text(const Comparison& comparison, std::string_view name_a,
                    std::string_view name_b) {
  std::string out = fmt::format("A  {}\nB  {}\n", name_a, name_b);
  for (const auto& [name, a, b] : comparison.differences)
    out += fmt::format("   {}: A {}, B {}\n", printable(name), printable(a), printable(b));
  out += fmt::format("\n{:<28}{:>14}{:>14}{:>10}\n", "", "A", "B", "B / A");
  const auto shown = [](std::optional<double> value) {
    return value ? fmt::format("{:.3f}", *value) : "-";
  };
  for (const Comparison::Figure& figure : comparison.figures) {
    out += fmt::format("{:<28}{:>14}{:>14}{:>10}\n", figure.name, shown(figure.a), shown(figure.b),
                       shown(figure.ratio()));
  }
  if (!comparison.remark.empty()) out += fmt::format("\n{}\n", comparison.remark);
  return out;
}

}  // namespace pd::load
