#include <fmt/format.h>

#include <csignal>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/process_flags.h"
#include "cli/settings.h"
#include "transfer/kv_transport.h"
#include "worker/worker.h"

namespace pd::cli {
namespace {

struct WorkerFlags {
  CommonFlags common;
  ProcessFlags process;
  std::uint64_t id = 0;
  std::string controller;
};

Result<worker::WorkerOptions> worker_options(const WorkerFlags& flags,
                                             const protocol::Config& config) {
  worker::WorkerOptions out;
  auto secret = read_secret(config);
  if (!secret) return std::unexpected(secret.error());
  out.secret = *secret;
  if (auto safe = check_listener(config.worker.host, out.secret, "[worker] host"); !safe)
    return std::unexpected(safe.error());
  auto path = find_model(config.model.path);
  if (!path) return std::unexpected(path.error());
  if (!flags.controller.empty()) {
    auto address = net::parse_address(flags.controller);
    if (!address) return std::unexpected(address.error());
    out.controller = *address;
  }
  out.id = WorkerId(flags.id);
  out.boot = BootId(random_bits() | 1);  // 0 means none
  out.seed = random_bits();
  out.http.host = config.worker.host;
  out.http.limits.body_bytes_max = Bytes(64 * 1024 * 1024);
  out.http.limits.write_buffer_max = legs::kChannelUnsentMax;
  // A gateway keeps its connections; it closes idle ones before this.
  out.http.limits.idle_timeout = std::chrono::minutes(5);
  out.model = model_options(config, *path);
  out.memory = memory_settings(config);
  out.chunk_tokens = config.prefill.chunk_tokens;
  out.lease = config.cluster.lease;
  out.block_fixed = config.transfer.mode == "block-fixed";
  return out;
}

transfer::UcxOptions ucx_options(const protocol::Config& config) {
  transfer::UcxOptions out;
  if (config.transfer.wires == "shm") out.wires = transfer::Wires::kSharedMemory;
  if (config.transfer.wires == "tcp") out.wires = transfer::Wires::kTcp;
  out.interface = config.transfer.interface;
  return out;
}

int run(const WorkerFlags& flags) {
  const auto config = load_config(flags.common);
  if (!config) return 1;
  configure_log(*config, fmt::format("worker {}", flags.id));
  auto options = worker_options(flags, *config);
  if (!options) return fail(options.error());

  net::EventLoop loop;
  std::unique_ptr<worker::Worker> worker;
  // Before the transport is made: a default action amid that would leave its shared memory behind.
  loop.on_signals({SIGTERM, SIGINT},
                  [&](int) { worker->drain(std::chrono::seconds(5), [&loop] { loop.stop(); }); });
  auto transport = transfer::make_ucx_transport(options->boot, ucx_options(*config));
  if (!transport) return fail(transport.error());
  auto created = worker::Worker::create(loop, std::move(*transport), std::move(*options));
  if (!created) return fail(created.error());
  worker = std::move(*created);
  announce(flags.process, {worker->port()});
  const auto lifeline = watch_lifeline(loop, flags.process, [&loop] { loop.stop(); });
  loop.run();
  return 0;
}

}  // namespace

Command add_worker(CLI::App& root) {
  CLI::App* app = root.add_subcommand("worker", "one instance; the controller gives it its role");
  auto flags = std::make_shared<WorkerFlags>();
  flags->common.add_to(*app);
  flags->process.add_to(*app);
  app->add_option("--id", flags->id, "number that the controller gave it")->required();
  app->add_option("--controller", flags->controller,
                  "where to register: the controller starts workers")
      ->type_name("HOST:PORT")
      ->required();
  return {app, [flags] { return run(*flags); }};
}

}  // namespace pd::cli
