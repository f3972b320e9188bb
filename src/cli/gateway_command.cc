#include <fmt/format.h>
#include <malloc.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <ctime>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/process_flags.h"
#include "cli/settings.h"
#include "gateway/gateway.h"
#include "model/model.h"

namespace pd::cli {
namespace {

struct GatewayFlags {
  CommonFlags common;
  ProcessFlags process;
  std::string controller;
  std::optional<std::string> host;
  std::optional<std::uint16_t> port;
};

// Of those that this process may use.
int cores() {
  cpu_set_t usable;
  CPU_ZERO(&usable);
  if (::sched_getaffinity(0, sizeof usable, &usable) != 0) return 1;
  return std::clamp(CPU_COUNT(&usable), 1, 128);
}

// So many clients are let in that those already here can be served to the end: the rest of the
// descriptors is for instances, a channel and a call or two to each from every loop.
int connections_within_limit(int configured) {
  constexpr rlim_t kOthers = 64;  // listener, log, control plane
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return configured;
  const rlim_t clients =
      limit.rlim_cur > 2 * kOthers ? (limit.rlim_cur - kOthers) / 8 * 7 : kOthers / 3;
  if (clients >= static_cast<rlim_t>(configured)) return configured;
  log::warn("[gateway] connections_max: {} with the limit of {} descriptors (ulimit -n), not {}",
            clients, limit.rlim_cur, configured);
  return static_cast<int>(clients);
}

Result<std::optional<gateway::AdminOptions>> admin_options(const protocol::Config& config,
                                                           const std::string& secret) {
  if (config.gateway.admin_port < 0) return std::nullopt;
  gateway::AdminOptions out;
  out.http.host = config.gateway.admin_host;
  out.http.port = static_cast<std::uint16_t>(config.gateway.admin_port);
  out.key = secret;
  if (!config.gateway.admin_key_file.empty()) {
    auto key = read_key_file(config.gateway.admin_key_file, "[gateway] admin_key_file");
    if (!key) return std::unexpected(key.error());
    out.key = std::move(*key);
  }
  if (out.key.empty()) {
    return error(ErrorCode::kInvalidArgument,
                 "[gateway] admin_port: the operator's port needs a key; set admin_key_file or "
                 "[cluster] secret_file");
  }
  return out;
}

// Bodies are megabytes and live for moments. glibc would keep them in its heap once it has seen
// some, where a few small things behind them keep their memory for ever: 256 MiB of bodies took 415
// MiB, and most of it was not given back.
constexpr int kMappedFrom = 256 * 1024;

int run(const GatewayFlags& flags) {
  ::mallopt(M_MMAP_THRESHOLD, kMappedFrom);
  auto config = load_config(flags.common);
  if (!config) return 1;
  if (flags.host) config->gateway.host = *flags.host;
  if (flags.port) config->gateway.port = *flags.port;
  configure_log(*config, "gateway");
  auto secret = read_secret(*config);
  if (!secret) return fail(secret.error());
  auto controller = net::parse_address(flags.controller);
  if (!controller) return fail(controller.error());
  auto path = find_model(config->model.path);
  if (!path) return fail(path.error());
  auto model = model::Model::open(*path);
  if (!model) return fail(model.error());
  if (!model->chat_template_error.empty())
    log::warn("chat template: {}", model->chat_template_error);

  gateway::GatewayOptions options;
  options.http.host = config->gateway.host;
  options.http.port = config->gateway.port;
  options.http.limits.body_bytes_max = config->gateway.body_bytes_max;
  options.http.limits.connections_max = connections_within_limit(config->gateway.connections_max);
  options.loops = config->gateway.loops > 0 ? config->gateway.loops : cores();
  options.handover_socket = config->gateway.handover_socket;
  options.dispatcher.pool.forwarding = config->gateway.forwarding == "fill"
                                           ? policy::Forwarding::kFill
                                           : policy::Forwarding::kSpread;
  options.dispatcher.hedge_after = config->gateway.hedge_prefill;
  options.dispatcher.whole.threshold = config->group.whole_tokens;
  options.dispatcher.whole.mode = config->group.whole == "off"    ? policy::WholeMode::kOff
                                  : config->group.whole == "auto" ? policy::WholeMode::kAuto
                                                                  : policy::WholeMode::kThreshold;
  options.controller = *controller;
  options.secret = *secret;
  options.model_name = model_name(*config, *model);
  const auto context = worker::served_context(*model, config->model.context_max);
  if (!context) return fail(context.error());
  options.context_max = *context;
  options.ttft_limit = config->gateway.ttft_limit;
  options.request_limit = config->gateway.request_limit;
  options.keep_alive_after = config->gateway.keep_alive_after;
  options.seed = random_bits();
  options.id = random_bits();
  options.created = std::time(nullptr);

  options.access_file = config->gateway.access_file;
  options.certificate = {config->gateway.tls_certificate, config->gateway.tls_key};
  options.access_log = config->gateway.access_log;
  auto admin = admin_options(*config, *secret);
  if (!admin) return fail(admin.error());
  options.admin = std::move(*admin);

  net::EventLoop loop;
  auto created = gateway::Gateway::create(loop, *model, std::move(options));
  if (!created && created.error().code == ErrorCode::kAlreadyExists)
    return fail(created.error().message + ": --port N, or --port 0 for any that is free");
  if (!created) return fail(created.error());
  const auto gateway = std::move(*created);
  gateway->on_serving([&] {
    const auto operators = gateway->admin_port();
    std::vector<std::uint16_t> ports{gateway->port()};
    if (operators) ports.push_back(*operators);
    announce(flags.process, ports);
    log::info("listening on {}:{}", config->gateway.host, gateway->port());
    if (operators)
      log::info("listening for operators on {}:{}", config->gateway.admin_host, *operators);
  });
  gateway->on_end([&loop] { loop.stop(); });
  const auto lifeline = watch_lifeline(loop, flags.process, [&loop] { loop.stop(); });
  loop.on_signals({SIGTERM, SIGINT}, [&](int) { gateway->drain(config->gateway.drain_limit); });
  loop.run();
  if (const bool log_written = gateway->close_log(); !log_written || gateway->reads_text())
    std::_Exit(0);
  return 0;
}

}  // namespace

Command add_gateway(CLI::App& root) {
  CLI::App* app = root.add_subcommand("gateway", "the OpenAI API in front of a group");
  auto flags = std::make_shared<GatewayFlags>();
  flags->common.add_to(*app);
  flags->process.add_to(*app);
  app->add_option("--controller", flags->controller, "where the topology comes from")
      ->type_name("HOST:PORT")
      ->required();
  app->add_option("--host", flags->host, "address to listen on");
  app->add_option("--port", flags->port, "port to listen on; 0: the system chooses");
  return {app, [flags] { return run(*flags); }};
}

}  // namespace pd::cli
