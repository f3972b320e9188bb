#include "bench/load_report.h"

#include <fmt/format.h>

#include <functional>
#include <iterator>

#include "load/samples.h"

namespace pd::bench {
namespace {

using Figure = std::function<double(const Round&)>;

std::vector<double> figures(const TargetRounds& target, const Figure& figure) {
  std::vector<double> out;
  out.reserve(target.rounds.size());
  for (const Round& round : target.rounds) out.push_back(figure(round));
  return out;
}

std::string cell(const TargetRounds& target, const Figure& figure, int decimals) {
  return load::to_string(load::spread(figures(target, figure)), decimals);
}

// Of rounds that lie next to each other in time, so that what changes on the machine meanwhile
// counts on both sides.
std::string added(const TargetRounds& target, const TargetRounds& base, const Figure& figure) {
  std::vector<double> out = figures(target, figure);
  const std::vector<double> less = figures(base, figure);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] -= less[i];
  return load::to_string(load::spread(std::move(out)), 3);
}

double seconds(const Round& round) { return to_seconds(round.load.length); }
double to_megabytes(Bytes bytes) { return static_cast<double>(bytes.value()) / 1e6; }
double tokens(const Round& round) { return static_cast<double>(round.load.tokens); }

}  // namespace

std::string latency_table(const std::vector<TargetRounds>& targets) {
  constexpr const char* kRow = "{:<16} {:>22} {:>24} {:>24} {:>22} {:>20}\n";
  const Figure p50 = [](const Round& round) { return load::percentile(round.load.ttft_ms, 0.50); };
  const Figure p99 = [](const Round& round) { return load::percentile(round.load.ttft_ms, 0.99); };
  const Figure gap = [](const Round& round) { return load::percentile(round.load.gap_ms, 0.99); };
  const Figure late = [](const Round& round) { return load::percentile(round.load.late_ms, 0.99); };
  const Figure cpu = [](const Round& round) {
    return 100 * round.cpu_seconds.value_or(0) / seconds(round);
  };
  std::string out = fmt::format(kRow, "TTFT in ms", "p50", "p99", "p99 token to token",
                                "sent late p99", "% of a core");
  for (const TargetRounds& target : targets) {
    const bool measured = !target.rounds.empty() && target.rounds.front().cpu_seconds;
    out += fmt::format(kRow, target.name, cell(target, p50, 3), cell(target, p99, 3),
                       cell(target, gap, 3), cell(target, late, 3),
                       measured ? cell(target, cpu, 1) : "-");
  }
  for (std::size_t i = 1; i < targets.size(); ++i) {
    out +=
        fmt::format(kRow, targets[i].name + " adds", added(targets[i], targets[0], p50),
                    added(targets[i], targets[0], p99), added(targets[i], targets[0], gap), "", "");
  }
  return out;
}

std::string throughput_table(const std::vector<TargetRounds>& targets) {
  constexpr const char* kRow = "{:<14} {:>28} {:>22} {:>22} {:>28}\n";
  const Figure rate = [](const Round& round) { return tokens(round) / seconds(round); };
  const Figure share = [](const Round& round) {
    return 100 * round.cpu_seconds.value_or(0) / seconds(round);
  };
  const Figure cost = [](const Round& round) {
    return 1e6 * round.cpu_seconds.value_or(0) / tokens(round);
  };
  const Figure per_core = [](const Round& round) {
    const double cpu = round.cpu_seconds.value_or(0);
    return cpu > 0 ? tokens(round) / cpu : 0;
  };
  std::string out = fmt::format(kRow, "tokens", "per second", "% of a core", "CPU us per token",
                                "per second of one core");
  for (const TargetRounds& target : targets) {
    const bool measured = !target.rounds.empty() && target.rounds.front().cpu_seconds;
    out += fmt::format(
        kRow, target.name, cell(target, rate, 0), measured ? cell(target, share, 1) : "-",
        measured ? cell(target, cost, 2) : "-", measured ? cell(target, per_core, 0) : "-");
  }
  return out;
}

std::string request_table(const std::vector<TargetRounds>& targets) {
  struct Column {
    const char* name;
    Figure figure;
    int decimals;
    bool of_process;
  };
  const auto requests = [](const Round& round) {
    return static_cast<double>(round.load.e2e_ms.size());
  };
  const Column columns[] = {
      {"CPU us per request",
       [=](const Round& round) { return 1e6 * round.cpu_seconds.value_or(0) / requests(round); }, 1,
       true},
      {"last byte ms p50",
       [](const Round& round) { return load::percentile(round.load.e2e_ms, 0.50); }, 2, false},
      {"last byte ms p99",
       [](const Round& round) { return load::percentile(round.load.e2e_ms, 0.99); }, 2, false},
      {"PSS MB",
       [](const Round& round) { return round.memory ? to_megabytes(round.memory->pss) : 0; }, 1,
       true},
      {"RSS MB",
       [](const Round& round) { return round.memory ? to_megabytes(round.memory->rss) : 0; }, 1,
       true},
  };
  constexpr const char* kRow = "{:<18} {:<16} {:>26} {:>24}\n";
  std::string out =
      fmt::format(kRow, "", "", "median [least, most]", "x of " + targets.front().name);
  for (const Column& column : columns) {
    const char* name = column.name;
    for (const TargetRounds& target : targets) {
      const bool measured = !column.of_process || (!target.rounds.empty() &&
                                                   target.rounds.front().cpu_seconds.has_value());
      if (!measured) continue;
      std::vector<double> times = figures(target, column.figure);
      const std::vector<double> base = figures(targets.front(), column.figure);
      for (std::size_t i = 0; i < times.size(); ++i)
        times[i] = base[i] > 0 ? times[i] / base[i] : 0;
      out += fmt::format(
          kRow, name, target.name, cell(target, column.figure, column.decimals),
          &target == &targets.front() ? "" : load::to_string(load::spread(std::move(times)), 2));
      name = "";
    }
  }
  return out;
}

std::string failures(const std::vector<TargetRounds>& targets) {
  std::string out;
  for (const TargetRounds& target : targets) {
    std::uint64_t failed = 0;
    std::uint64_t sent = 0;
    std::string first;
    for (const Round& round : target.rounds) {
      failed += round.load.failed;
      sent += round.load.sent;
      if (first.empty()) first = round.load.failure;
    }
    if (failed > 0)
      fmt::format_to(std::back_inserter(out), "{}: {} of {} requests failed: {}\n", target.name,
                     failed, sent, first);
  }
  return out;
}

}  // namespace pd::bench
