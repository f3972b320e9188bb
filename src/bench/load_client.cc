// load_client: rounds of load on one or several targets in turn, and a table of what they did.
//   load_client --target direct=127.0.0.1:9001 --target gateway=127.0.0.1:8000,4711
//               --rate 500 --seconds 20 --tokens 16
// Behind the comma: the target's process, whose CPU time and memory are read, with its children's.
// Exits with 1 if a request failed.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>

#include "base/log.h"
#include "bench/load.h"
#include "bench/load_report.h"
#include "bench/process_use.h"

namespace {

using namespace pd;
using namespace pd::bench;

// Opens connections and fills caches; not counted.
constexpr Duration kWarmUp = std::chrono::seconds(1);

struct Flags {
  std::vector<std::string> targets;
  double rate = 0;
  double seconds = 20;
  bool even = false;
  int streams = 0;
  int requests = 0;
  int rounds = 5;
  std::uint32_t tokens = 16;
  std::size_t prompt_bytes = 600;
  bool chat = false;
  bool whole = false;
  std::string model;
  std::vector<std::string> unnumbered;
  bool per_request = false;
};

struct Target {
  net::HttpAddress address;
  std::optional<int> process;
  bool numbered = true;
};

void add_flags(CLI::App& app, Flags& flags) {
  app.add_option("--target", flags.targets, "NAME=HOST:PORT[,PID]; may be given several times")
      ->required();
  app.add_option("--rate", flags.rate, "requests per second, sent whatever the target does");
  app.add_option("--seconds", flags.seconds, "length of a round, with --rate")
      ->check(CLI::PositiveNumber);
  app.add_flag("--even", flags.even, "evenly spaced; otherwise a Poisson process");
  app.add_option("--streams", flags.streams, "instead of --rate: so many requests at any time");
  app.add_option("--requests", flags.requests, "requests of a round, with --streams");
  app.add_option("--rounds", flags.rounds, "of each target")->check(CLI::PositiveNumber);
  app.add_option("--tokens", flags.tokens, "of each answer")->check(CLI::Range(1, 65536));
  app.add_option("--prompt-bytes", flags.prompt_bytes, "length of each prompt")
      ->check(CLI::Range(1, 1 << 20));
  app.add_flag("--chat", flags.chat, "/v1/chat/completions; otherwise /v1/completions");
  app.add_flag("--whole", flags.whole, "answers in one piece, not streamed");
  app.add_option("--model", flags.model, "what the requests ask for; otherwise they do not say");
  app.add_option("--words", flags.unnumbered,
                 "NAME of a target that answers in words, which are not checked");
  app.add_flag("--per-request", flags.per_request,
               "the table has CPU time, time to the last byte and memory, beside the first target");
}

std::optional<std::pair<std::string, Target>> parse_target(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) return std::nullopt;
  const std::string_view where = text.substr(equals + 1);
  const std::size_t comma = where.find(',');
  const auto address = net::parse_address(where.substr(0, comma));
  if (!address) return std::nullopt;
  Target target{*address, {}, true};
  if (comma != std::string_view::npos) {
    const std::string_view digits = where.substr(comma + 1);
    int process = 0;
    const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), process);
    if (read.ec != std::errc() || read.ptr != digits.data() + digits.size()) return std::nullopt;
    target.process = process;
  }
  return std::pair(std::string(text.substr(0, equals)), target);
}

LoadOptions load_options(const Flags& flags) {
  LoadOptions out;
  out.path = flags.chat ? "/v1/chat/completions" : "/v1/completions";
  out.bodies = make_bodies(flags.chat, !flags.whole, flags.tokens, flags.prompt_bytes, flags.model);
  out.tokens = flags.tokens;
  out.streamed = !flags.whole;
  if (flags.streams > 0) {
    out.arrivals = ClosedLoop{flags.streams, flags.requests};
  } else {
    const auto length =
        std::chrono::duration_cast<Duration>(std::chrono::duration<double>(flags.seconds));
    out.arrivals = OpenLoop{flags.rate, length, flags.even, 1};
  }
  return out;
}

LoadOptions warm_up_of(LoadOptions options) {
  if (auto* open = std::get_if<OpenLoop>(&options.arrivals))
    open->length = std::min(open->length, kWarmUp);
  if (auto* closed = std::get_if<ClosedLoop>(&options.arrivals))
    closed->requests = std::min(closed->requests, closed->at_once);
  return options;
}

Result<Round> run_round(net::EventLoop& loop, net::HttpClient& client, const Target& target,
                        LoadOptions options) {
  options.numbered = target.numbered;
  const auto cpu = [&]() -> Result<double> {
    return target.process ? process_cpu_seconds(*target.process) : 0.0;
  };
  const auto before = cpu();
  if (!before) return std::unexpected(before.error());
  Round round{run_load(loop, client, target.address, options), {}, {}};
  const auto after = cpu();
  if (!after) return std::unexpected(after.error());
  if (!target.process) return round;
  round.cpu_seconds = *after - *before;
  const auto memory = process_memory(*target.process);
  if (!memory) return std::unexpected(memory.error());
  round.memory = *memory;
  return round;
}

int run(const Flags& flags) {
  std::vector<Target> targets;
  std::vector<TargetRounds> results;
  for (const std::string& text : flags.targets) {
    auto parsed = parse_target(text);
    if (!parsed) {
      fmt::print(stderr, "load_client: --target {}: write NAME=HOST:PORT or NAME=HOST:PORT,PID\n",
                 text);
      return 2;
    }
    parsed->second.numbered = std::ranges::count(flags.unnumbered, parsed->first) == 0;
    results.push_back({std::move(parsed->first), {}});
    targets.push_back(std::move(parsed->second));
  }
  net::EventLoop loop;
  net::HttpClient client(loop, {.idle_per_address_max = 4096});
  LoadOptions options = load_options(flags);
  for (const Target& target : targets) run_load(loop, client, target.address, warm_up_of(options));
  for (int round = 0; round < flags.rounds; ++round) {
    // Every other round the other way about, so that no target is always the first.
    for (std::size_t i = 0; i < targets.size(); ++i) {
      const std::size_t at = round % 2 == 0 ? i : targets.size() - 1 - i;
      auto done = run_round(loop, client, targets[at], options);
      if (!done) {
        fmt::print(stderr, "load_client: {}\n", done.error().message);
        return 2;
      }
      results[at].rounds.push_back(std::move(*done));
    }
    if (auto* open = std::get_if<OpenLoop>(&options.arrivals)) ++open->seed;
  }
  if (flags.per_request)
    fmt::print("{}", request_table(results));
  else
    fmt::print("{}", flags.streams > 0 ? throughput_table(results) : latency_table(results));
  const std::string failed = failures(results);
  fmt::print("{}", failed);
  return failed.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  Flags flags;
  CLI::App app("Load on OpenAI servers whose answers are the stub workers' numbered tokens.");
  add_flags(app, flags);
  CLI11_PARSE(app, argc, argv);
  const bool open = flags.rate > 0;
  const bool closed = flags.streams > 0 && flags.requests > 0;
  if (open == closed) {
    fmt::print(stderr, "load_client: give --rate N, or --streams N and --requests M\n");
    return 2;
  }
  log::configure("load_client", log::Level::kWarn);
  return run(flags);
}
