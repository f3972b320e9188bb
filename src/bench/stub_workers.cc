// stub_workers: a group of stub workers with its topology, until SIGTERM or SIGINT. Prints one line
// per port: "controller PORT", then "prefill PORT" and "decode PORT" for each worker. Every worker
// port also answers the OpenAI API itself. With --manner sglang or vllm they are what routers of
// those projects expect behind them, and there is no controller.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "base/log.h"
#include "bench/peer_worker.h"
#include "bench/stub_group.h"

namespace {

using namespace pd;
using namespace pd::bench;

struct Flags {
  std::string manner = "pdserve";
  std::string model = "stub";
  int prefill = 2;
  int decode = 2;
  std::uint16_t port = 0;
  double prefill_ms = 0;
  double step_ms = 0;
  StubOptions options;
};

void add_flags(CLI::App& app, Flags& flags) {
  StubOptions& options = flags.options;
  app.add_option("--manner", flags.manner, "whose workers these stand for")
      ->check(CLI::IsMember({"pdserve", "sglang", "vllm"}));
  app.add_option("--model", flags.model, "name of the model, where not pdserve's");
  app.add_option("--prefill", flags.prefill, "prefill workers")->check(CLI::Range(1, 1000));
  app.add_option("--decode", flags.decode, "decode workers")->check(CLI::Range(1, 1000));
  app.add_option("--port", flags.port, "of the topology; 0: the system chooses");
  app.add_option("--prefill-ms", flags.prefill_ms, "from a request to its first token")
      ->check(CLI::Range(0.0, 600e3));
  app.add_option("--step-ms", flags.step_ms, "between two tokens; 0: as fast as they are read")
      ->check(CLI::Range(0.0, 600e3));
  app.add_option("--burst", options.pace.burst, "with --step-ms 0: tokens in one write")
      ->check(CLI::Range(1, 4096));
  app.add_option("--slots", options.slots, "prompts a prefill worker holds")
      ->check(CLI::PositiveNumber);
  app.add_option("--places", options.places, "requests a decode worker holds")
      ->check(CLI::PositiveNumber);
}

Duration from_ms(double ms) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(ms));
}

int fail(const Error& error) {
  fmt::print(stderr, "stub_workers: {}\n", error.message);
  return 1;
}

// Those who started this read the ports.
int serve(net::EventLoop& loop) {
  std::fflush(stdout);
  loop.run();
  return 0;
}

int run_group(net::EventLoop& loop, const Flags& flags) {
  const auto group =
      StubGroup::create(loop, flags.prefill, flags.decode, flags.port, flags.options);
  if (!group) return fail(group.error());
  fmt::print("controller {}\n", (*group)->controller_port());
  for (const auto& instance : (*group)->topology().instances) {
    const std::string& address = instance.address;
    fmt::print("{} {}\n", protocol::to_string(instance.role),
               address.substr(address.rfind(':') + 1));
  }
  return serve(loop);
}

int run_peers(net::EventLoop& loop, PeerManner manner, const Flags& flags) {
  PeerHandoffs handoffs;
  std::vector<std::unique_ptr<PeerWorker>> workers;
  for (int i = 0; i < flags.prefill + flags.decode; ++i) {
    const Role role = i < flags.prefill ? Role::kPrefill : Role::kDecode;
    auto worker = PeerWorker::create(loop, handoffs, manner, role, flags.model, flags.options);
    if (!worker) return fail(worker.error());
    fmt::print("{} {}\n", protocol::to_string(role), (*worker)->port());
    workers.push_back(std::move(*worker));
  }
  return serve(loop);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  Flags flags;
  CLI::App app("Workers without a model: they speak pdserve's P/D protocol and the OpenAI API.");
  add_flags(app, flags);
  CLI11_PARSE(app, argc, argv);
  flags.options.prefill = from_ms(flags.prefill_ms);
  flags.options.pace.step = from_ms(flags.step_ms);

  log::configure("stub_workers", log::Level::kWarn);
  net::EventLoop loop;
  loop.on_signals({SIGTERM, SIGINT}, [&loop](int) { loop.stop(); });
  if (flags.manner == "sglang") return run_peers(loop, PeerManner::kSglang, flags);
  if (flags.manner == "vllm") return run_peers(loop, PeerManner::kVllm, flags);
  return run_group(loop, flags);
}
