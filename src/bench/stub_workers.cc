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
#include "model/model.h"

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
  double prefill_us_per_token = 0;
  std::string tokenizer;
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
  auto* per_token = app.add_option("--prefill-us-per-token", flags.prefill_us_per_token,
                                   "added to --prefill-ms for each token of the prompt");
  per_token->check(CLI::Range(0.0, 1e6));
  per_token->needs(
      app.add_option("--tokenizer", flags.tokenizer, "folder of the model whose tokens these are")
          ->check(CLI::ExistingDirectory));
  app.add_option("--step-ms", flags.step_ms, "between two tokens; 0: as fast as they are read")
      ->check(CLI::Range(0.0, 600e3));
  app.add_option("--burst", options.pace.burst, "with --step-ms 0: tokens in one write")
      ->check(CLI::Range(1, 4096));
  app.add_option("--slots", options.slots,
                 "prompts a prefill worker holds, or computes at once where it queues them")
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
  flags.options.prefill_per_token = from_ms(flags.prefill_us_per_token / 1000);
  flags.options.pace.step = from_ms(flags.step_ms);
  std::optional<model::Model> model;
  if (!flags.tokenizer.empty()) {
    auto opened = model::Model::open(flags.tokenizer);
    if (!opened) return fail(opened.error());
    model.emplace(std::move(*opened));
    // A text that cannot be encoded counts for nothing: a gateway would have refused it.
    flags.options.count_tokens = [&model](const std::string& text) {
      const auto ids =
          model->tokenizer.encode(text, {.add_special_tokens = true, .parse_special = true});
      return ids ? ids->size() : 0;
    };
  }

  log::configure("stub_workers", log::Level::kWarn);
  net::EventLoop loop;
  loop.on_signals({SIGTERM, SIGINT}, [&loop](int) { loop.stop(); });
  if (flags.manner == "sglang") return run_peers(loop, PeerManner::kSglang, flags);
  if (flags.manner == "vllm") return run_peers(loop, PeerManner::kVllm, flags);
  return run_group(loop, flags);
}
