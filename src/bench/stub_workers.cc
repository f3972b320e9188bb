// stub_workers: a group of stub workers with its topology, until SIGTERM or SIGINT. Prints one line
// per port: "controller PORT", then "prefill PORT" and "decode PORT" for each worker. Every worker
// port also answers the OpenAI API itself.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "base/log.h"
#include "bench/stub_group.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  int prefill = 2;
  int decode = 2;
  std::uint16_t port = 0;
  double prefill_ms = 0;
  double step_ms = 0;
  pd::bench::StubOptions options;
  CLI::App app("Workers without a model: they speak pdserve's P/D protocol and the OpenAI API.");
  app.add_option("--prefill", prefill, "prefill workers")->check(CLI::Range(1, 1000));
  app.add_option("--decode", decode, "decode workers")->check(CLI::Range(1, 1000));
  app.add_option("--port", port, "of the topology; 0: the system chooses");
  app.add_option("--prefill-ms", prefill_ms, "from a request to its first token")
      ->check(CLI::Range(0.0, 600e3));
  app.add_option("--step-ms", step_ms, "between two tokens; 0: as fast as they are read")
      ->check(CLI::Range(0.0, 600e3));
  app.add_option("--burst", options.pace.burst, "with --step-ms 0: tokens in one write")
      ->check(CLI::Range(1, 4096));
  app.add_option("--slots", options.slots, "prompts a prefill worker holds")
      ->check(CLI::PositiveNumber);
  app.add_option("--places", options.places, "requests a decode worker holds")
      ->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  options.prefill = std::chrono::duration_cast<pd::Duration>(
      std::chrono::duration<double, std::milli>(prefill_ms));
  options.pace.step =
      std::chrono::duration_cast<pd::Duration>(std::chrono::duration<double, std::milli>(step_ms));

  pd::log::configure("stub_workers", pd::log::Level::kWarn);
  pd::net::EventLoop loop;
  loop.on_signals({SIGTERM, SIGINT}, [&loop](int) { loop.stop(); });
  const auto group = pd::bench::StubGroup::create(loop, prefill, decode, port, options);
  if (!group) {
    fmt::print(stderr, "stub_workers: {}\n", group.error().message);
    return 1;
  }
  fmt::print("controller {}\n", (*group)->controller_port());
  for (const auto& instance : (*group)->topology().instances) {
    const std::string& address = instance.address;
    fmt::print("{} {}\n", pd::protocol::to_string(instance.role),
               address.substr(address.rfind(':') + 1));
  }
  std::fflush(stdout);
  loop.run();
  return 0;
}
