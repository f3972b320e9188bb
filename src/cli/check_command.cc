#include <fmt/format.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/mapped_file.h"
#include "base/rng.h"
#include "cli/cluster_status.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/files.h"
#include "cli/settings.h"
#include "engine/kernels/kernels.h"
#include "model/model.h"
#include "net/http_server.h"
#include "protocol/access_file.h"
#include "transfer/kv_transport.h"

namespace pd::cli {
namespace {

// One line per finding; mistakes name the key and the fix.
class Findings {
 public:
  void good(const std::string& what) { tell("ok     {}\n", what); }
  void note(const std::string& what) { tell("note   {}\n", what); }
  void bad(const std::string& what) {
    tell("wrong  {}\n", what);
    wrong_ = true;
  }
  int exit_status() const { return wrong_ ? 1 : 0; }

 private:
  bool wrong_ = false;
};

std::string mib(std::int64_t bytes) {
  return fmt::format("{:.0f} MiB", static_cast<double>(bytes) / (1 << 20));
}

// /proc and the like say that they are writable.
bool is_pseudo(const std::filesystem::path& path) {
  struct statfs stat{};
  return ::statfs(path.c_str(), &stat) == 0 && stat.f_blocks == 0;
}

// Somebody wrote an image of this size there before: nothing more is needed.
bool has_image(const std::filesystem::path& directory, Bytes size) {
  std::error_code code;
  for (const auto& entry : std::filesystem::directory_iterator(directory, code)) {
    std::error_code unreadable;
    if (entry.path().extension() == ".weights" &&
        entry.file_size(unreadable) >= static_cast<std::uintmax_t>(size.value()) && !unreadable)
      return true;
  }
  return false;
}

void check_weights_directory(const protocol::Config& config, const model::Model& model,
                             const std::filesystem::path& path, Findings& findings) {
  const std::filesystem::path directory = model_options(config, path).pack_directory;
  const auto plan =
      worker::MemoryPlan::make(model, model_options(config, path), memory_settings(config));
  if (!plan) return;  // said elsewhere
  std::filesystem::path existing = directory;
  std::error_code code;
  while (!std::filesystem::exists(existing, code) && existing.has_relative_path())
    existing = existing.parent_path();
  if (::access(existing.c_str(), W_OK | X_OK) != 0) {
    return findings.bad(fmt::format(
        "[cluster] weights_directory: {} is not writable; choose another", existing.string()));
  }
  const auto space = std::filesystem::space(existing, code);
  const bool fits = !code && space.available >= static_cast<std::uintmax_t>(plan->weights.value());
  if (!fits && !has_image(directory, plan->weights)) {
    return findings.bad(fmt::format(
        "[cluster] weights_directory: packed weights need {} in {}, {} are free; free some or "
        "choose another",
        mib(plan->weights.value()), directory.string(),
        mib(static_cast<std::int64_t>(space.available))));
  }
  findings.good(fmt::format("weights directory {}", directory.string()));
}

void check_model(const protocol::Config& config, Findings& findings) {
  const auto kernels = engine::select_kernels(config.model.kernels);
  if (!kernels) return findings.bad("[model] kernels: " + kernels.error().message);
  findings.good(
      fmt::format("kernels {} (this CPU has {})", (*kernels)->name, engine::available_kernels()));
  const auto path = find_model(config.model.path);
  if (!path) return findings.bad("[model] path: " + path.error().message);
  const auto model = model::Model::open(*path);
  if (!model) return findings.bad("[model] path: " + model.error().message);
  const model::ModelConfig& c = model->config();
  findings.good(fmt::format("model {}: {}, {} layers, context {}, vocabulary {}", model->name,
                            c.architecture, c.layers, c.context_max.value(), c.vocab));
  if (!model->chat_template_error.empty())
    findings.bad("chat template: " + model->chat_template_error +
                 "; /v1/completions works without it");
  const auto context = worker::served_context(*model, config.model.context_max);
  if (!context) return findings.bad(context.error().message);
  check_weights_directory(config, *model, *path, findings);
  const auto memory = check_memory(config, *model);
  if (!memory) return findings.bad(memory.error().message);
  findings.good(*memory);
}

// The port that a server of this machine gets there.
Result<std::uint16_t> try_listen(const std::string& host, std::uint16_t port) {
  net::EventLoop loop;
  net::HttpServerOptions options;
  options.host = host;
  options.port = port;
  const auto server =
      net::HttpServer::create(loop, options, [](net::HttpRequest, net::HttpResponse) {});
  if (!server) return std::unexpected(server.error());
  return (*server)->port();
}

void check_listeners(const protocol::Config& config, Findings& findings) {
  const auto secret = read_secret(config);
  if (!secret) return findings.bad(secret.error().message);
  if (auto safe = check_listener(config.worker.host, *secret, "[worker] host"); !safe)
    findings.bad(safe.error().message);
  const auto port = try_listen(config.gateway.host, config.gateway.port);
  if (!port) return findings.bad(fmt::format("[gateway] port: {}", port.error().message));
  findings.good(fmt::format("gateway can listen on {}:{}", config.gateway.host, *port));
  const bool local = config.gateway.host.starts_with("127.") || config.gateway.host == "::1" ||
                     config.gateway.host == "localhost";
  if (!local && config.gateway.access_file.empty())
    findings.note(
        "[gateway] host: other machines reach the API, and it asks for no key; set access_file");
}

void check_forwarding(const protocol::Config& config, Findings& findings) {
  if (config.gateway.forwarding == "fill" && config.group.prefill + config.group.both > 1) {
    findings.note(
        "[gateway] forwarding: \"fill\" leaves prefill instances idle; this engine computes "
        "prompts side by side, and \"spread\" answers them sooner");
  }
}

// What else the gateway opens at its start.
void check_gateway_files(const protocol::Config& config, Findings& findings) {
  const protocol::GatewaySection& gateway = config.gateway;
  if (gateway.admin_port >= 0) {
    const auto port =
        try_listen(gateway.admin_host, static_cast<std::uint16_t>(gateway.admin_port));
    if (!port) findings.bad(fmt::format("[gateway] admin_port: {}", port.error().message));
  }
  const auto takes_files = [](const std::filesystem::path& file) {
    const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
    return ::access(folder.c_str(), W_OK | X_OK) == 0;
  };
  for (const auto& [key, file] : {std::pair("access_log", gateway.access_log),
                                  std::pair("handover_socket", gateway.handover_socket)}) {
    std::error_code code;
    if (!file.empty() && !std::filesystem::exists(file, code) && !takes_files(file))
      findings.bad(
          fmt::format("[gateway] {}: {} cannot be made there; choose another folder", key, file));
  }
  if (!gateway.access_log.empty() && ::access(gateway.access_log.c_str(), F_OK) == 0 &&
      ::access(gateway.access_log.c_str(), W_OK) != 0)
    findings.bad(fmt::format("[gateway] access_log: {} cannot be written", gateway.access_log));
}

void check_directory(const protocol::Config& config, Findings& findings) {
  if (config.cluster.directory.empty()) return;  // `up` makes one
  std::filesystem::path existing = config.cluster.directory;
  std::error_code code;
  while (!std::filesystem::exists(existing, code) && existing.has_relative_path())
    existing = existing.parent_path();
  if (!std::filesystem::is_directory(existing, code) ||
      ::access(existing.c_str(), W_OK | X_OK) != 0 || is_pseudo(existing))
    return findings.bad(
        fmt::format("[cluster] directory: {} takes no files; choose another", existing.string()));
  findings.good("cluster directory " + config.cluster.directory);
}

void check_access(const protocol::Config& config, Findings& findings) {
  const std::string& path = config.gateway.access_file;
  if (!path.empty()) {
    const auto text = read_file(path, 64 << 20);
    if (!text) return findings.bad("[gateway] access_file: " + text.error().message);
    const auto file = protocol::parse_access_file(*text, path);
    if (!file) {
      for (const std::string& mistake : file.error()) findings.bad(mistake);
      return;
    }
    findings.good(fmt::format("access file {}: {} tenants, {} keys", path, file->tenants.size(),
                              file->keys.size()));
  }
  if (!config.gateway.admin_key_file.empty()) {
    const auto key = read_key_file(config.gateway.admin_key_file, "[gateway] admin_key_file");
    if (!key) findings.bad(key.error().message);
  }
}

void check_certificate(const protocol::Config& config, Findings& findings) {
  const protocol::GatewaySection& gateway = config.gateway;
  if (gateway.tls_certificate.empty()) return;
  const auto certificate = read_file(gateway.tls_certificate, 1 << 20);
  if (!certificate)
    return findings.bad("[gateway] tls_certificate: " + certificate.error().message);
  const auto key = read_file(gateway.tls_key, 1 << 20);
  if (!key) return findings.bad("[gateway] tls_key: " + key.error().message);
  const auto context = net::TlsServerContext::create(*certificate, *key);
  if (!context) return findings.bad("[gateway] tls_certificate: " + context.error().message);
  const auto days = ((*context)->not_after() - std::time(nullptr)) / 86'400;
  if ((*context)->not_after() <= std::time(nullptr))
    return findings.bad("[gateway] tls_certificate: has ended; renew it");
  findings.good(fmt::format("certificate {}, {} days left", gateway.tls_certificate, days));
}

// Moves `size` random bytes from `from` to `to` and compares digests; the bytes' rate and carrier
// in the finding.
Status move_kv(transfer::KvTransport& from, transfer::KvTransport& to, Bytes size,
               std::uint64_t seed, std::string& how) {
  auto region = from.expose(size);
  if (!region) return std::unexpected(region.error());
  Rng rng(seed);
  for (std::size_t i = 0; i + 8 <= region->memory.size(); i += 8) {
    const std::uint64_t bits = rng.next();
    std::memcpy(region->memory.data() + i, &bits, sizeof(bits));
  }
  const std::uint64_t expected =
      digest64(region->memory.first(static_cast<std::size_t>(size.value())));
  std::optional<Status> done;
  const Time start = SteadyTime::now();
  to.pull(from.address(), {region->key, 0, size}, [&](Result<std::span<const std::byte>> bytes) {
    if (!bytes)
      done = std::unexpected(bytes.error());
    else if (digest64(*bytes) != expected)
      done = error(ErrorCode::kCorrupt, "the bytes that arrived differ");
    else
      done = Status();
  });
  while (!done && SteadyTime::now() - start < std::chrono::seconds(10)) {
    from.progress(SteadyTime::now() + std::chrono::milliseconds(1));
    to.progress(SteadyTime::now() + std::chrono::milliseconds(1));
  }
  if (!done) return error(ErrorCode::kDeadlineExceeded, "nothing arrived within 10 s");
  const auto carrier = to.transport_to(from.address().boot_id);
  how = fmt::format("{} by {}", mib(size.value()),
                    carrier ? transfer::to_string(*carrier) : "unknown");
  return *done;
}

void check_transfer(const protocol::Config& config, Findings& findings) {
  transfer::UcxOptions options;
  if (config.transfer.wires == "shm") options.wires = transfer::Wires::kSharedMemory;
  if (config.transfer.wires == "tcp") options.wires = transfer::Wires::kTcp;
  options.interface = config.transfer.interface;
  auto p = transfer::make_ucx_transport(BootId(random_bits() | 1), options);
  auto d = transfer::make_ucx_transport(BootId(random_bits() | 1), options);
  for (const auto* side : {&p, &d}) {
    if (!*side)
      return findings.bad(fmt::format("[transfer] interface, wires: {}", side->error().message));
  }
  constexpr Bytes kSize{32 << 20};
  std::string how;
  for (const bool forth : {true, false}) {
    const Status moved = forth ? move_kv(**p, **d, kSize, random_bits(), how)
                               : move_kv(**d, **p, kSize, random_bits(), how);
    const char* direction = forth ? "P to D" : "D to P";
    if (!moved)
      return findings.bad(fmt::format("[transfer] wires: test KV from {} failed: {}", direction,
                                      moved.error().message));
    findings.good(fmt::format("test KV from {}: {}, bytes equal", direction, how));
  }
}

// Every instance of a running cluster as its controller sees it.
void check_cluster(const protocol::Config& config, const std::string& controller,
                   Findings& findings) {
  const auto secret = read_secret(config);
  auto address = net::parse_address(controller);
  if (!address) return findings.bad("--controller: " + address.error().message);
  net::HttpCall call;
  call.address = *address;
  call.method = "GET";
  call.target = "/cluster/v1/status";
  call.headers = {{"authorization", "Bearer " + secret.value_or("")}};
  call.read_timeout = std::chrono::seconds(5);
  const auto answer = net::fetch_blocking(std::move(call));
  if (!answer)
    return findings.bad(fmt::format("controller {}: {}", controller, answer.error().message));
  if (answer->status == 401)
    return findings.bad(
        "controller: it denies the secret; set [cluster] secret_file to the cluster's own");
  const auto status = parse_cluster_status(answer->body);
  if (!status)
    return findings.bad(fmt::format("controller {}: {}", controller, status.error().message));
  for (const InstanceStatus& instance : status->instances) {
    const std::string line =
        fmt::format("instance {} ({}) at {}: {}", instance.id, instance.role,
                    instance.address.empty() ? "no address yet" : instance.address, instance.state);
    if (instance.trouble.empty() && instance.serves())
      findings.good(line);
    else
      findings.bad(instance.trouble.empty() ? line : line + ": " + instance.trouble);
  }
}

int run(const CommonFlags& flags, const std::string& controller) {
  const auto config = load_config(flags);
  if (!config) return 1;
  Findings findings;
  findings.good(flags.config.empty() ? "configuration: defaults" : "configuration " + flags.config);
  if (!controller.empty()) {
    check_cluster(*config, controller, findings);
    return findings.exit_status();
  }
  check_model(*config, findings);
  check_listeners(*config, findings);
  check_gateway_files(*config, findings);
  check_forwarding(*config, findings);
  check_directory(*config, findings);
  check_certificate(*config, findings);
  check_access(*config, findings);
  check_transfer(*config, findings);
  return findings.exit_status();
}

}  // namespace

Command add_check(CLI::App& root) {
  CLI::App* app = root.add_subcommand(
      "check", "configuration, model, memory, ports, KV transfer: finds mistakes before a start");
  auto flags = std::make_shared<CommonFlags>();
  auto controller = std::make_shared<std::string>();
  flags->add_to(*app);
  app->add_option("--controller", *controller, "check the instances of a running cluster instead")
      ->type_name("HOST:PORT");
  return {app, [flags, controller] { return run(*flags, *controller); }};
}

}  // namespace pd::cli
