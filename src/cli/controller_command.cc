#include <fmt/format.h>

#include <csignal>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/process_flags.h"
#include "cli/settings.h"
#include "controller/controller.h"
#include "store/store.h"

namespace pd::cli {
namespace {

struct ControllerFlags {
  CommonFlags common;
  ProcessFlags process;
};

constexpr Duration kStopLimit = std::chrono::seconds(8);

int run(const ControllerFlags& flags) {
  const auto config = load_config(flags.common);
  if (!config) return 1;
  configure_log(*config, "controller");
  auto secret = read_secret(*config);
  if (!secret) return fail(secret.error());
  std::filesystem::path directory = config->cluster.directory;
  if (directory.empty())
    return fail(
        "[cluster] directory: the controller needs one for its state; set it to a folder of its "
        "own");
  std::error_code code;
  std::filesystem::create_directories(directory, code);
  if (code)
    return fail(fmt::format("{}: [cluster] directory: cannot make it: {}", directory.string(),
                            code.message()));
  auto store = store::open_embedded_store(directory / "state.db");
  if (!store) return fail(store.error());

  controller::ControllerOptions options;
  options.http.host = config->worker.host;
  options.group.prefill = config->group.prefill;
  options.group.decode = config->group.decode;
  options.group.both = config->group.both;
  options.secret = *secret;
  options.worker_argv = {program_path().string(), "worker"};
  if (!flags.common.config.empty())
    options.worker_argv.insert(options.worker_argv.end(), {"--config", flags.common.config});
  if (flags.common.model)
    options.worker_argv.insert(options.worker_argv.end(), {"--model", *flags.common.model});
  options.log_directory = directory;
  options.lifeline = flags.process.lifeline;
  options.seed = random_bits();

  net::EventLoop loop;
  auto created = controller::Controller::create(loop, **store, std::move(options));
  if (!created) return fail(created.error());
  const auto controller = std::move(*created);
  log::info("for gateways: --controller {}:{}", config->worker.host, controller->port());
  announce(flags.process, {controller->port()});
  // In order here too: instances that are killed while they start leave shared memory behind.
  const auto stop = [&] { controller->stop(kStopLimit, [&loop] { loop.stop(); }); };
  const auto lifeline = watch_lifeline(loop, flags.process, stop);
  loop.on_signals({SIGTERM, SIGINT}, [&](int) { stop(); });
  loop.run();
  return 0;
}

}  // namespace

Command add_controller(CLI::App& root) {
  CLI::App* app =
      root.add_subcommand("controller", "starts the instances of a group and keeps it whole");
  auto flags = std::make_shared<ControllerFlags>();
  flags->common.add_to(*app);
  flags->process.add_to(*app);
  return {app, [flags] { return run(*flags); }};
}

}  // namespace pd::cli
