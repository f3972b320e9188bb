#include "cli/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <thread>

#include "base/log.h"
#include "base/machine_memory.h"
#include "base/mapped_file.h"
#include "base/printable.h"
#include "cli/console.h"
#include "cli/files.h"

namespace pd::cli {
namespace {

constexpr std::size_t kConfigBytesMax = 1 << 20;

log::Level level_of(std::string_view name) {
  if (name == "debug") return log::Level::kDebug;
  if (name == "warn") return log::Level::kWarn;
  if (name == "error") return log::Level::kError;
  if (name == "off") return log::Level::kOff;
  return log::Level::kInfo;
}

int threads_of(const protocol::Config& config) {
  if (config.worker.threads > 0) return config.worker.threads;
  const int instances = config.group.prefill + config.group.decode + config.group.both;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::max(1, cores / std::max(1, instances));
}

}  // namespace

void CommonFlags::add_to(CLI::App& app) {
  app.add_option("--config", config, "configuration file (TOML); every key has a default")
      ->type_name("FILE");
  app.add_option("--model", model,
                 "Hugging Face folder, .gguf file, or stories260K (ships with pdserve)")
      ->type_name("PATH");
  app.add_option("--log", log_level, "how much is logged")
      ->check(CLI::IsMember({"debug", "info", "warn", "error", "off"}))
      ->type_name("LEVEL");
}

int fail(std::string_view message) {
  note("pdserve: {}\n", printable(message));
  return 1;
}

int fail(const Error& error) { return fail(error.message); }

std::optional<protocol::Config> load_config(const CommonFlags& flags) {
  std::string text;
  if (!flags.config.empty()) {
    auto file = read_file(flags.config, kConfigBytesMax);
    if (!file) {
      fail(file.error());
      return std::nullopt;
    }
    text = std::move(*file);
  }
  auto config = protocol::parse_config(text, flags.config);
  if (!config) {
    for (const std::string& mistake : config.error()) fail(mistake);
    return std::nullopt;
  }
  if (flags.model) config->model.path = *flags.model;
  if (flags.log_level) config->log.level = *flags.log_level;
  return std::move(*config);
}

Result<std::string> read_key_file(const std::string& path, std::string_view key) {
  auto secret = read_file(path, 4096);
  if (!secret)
    return error(secret.error().code, fmt::format("{}: {}", key, secret.error().message));
  while (!secret->empty() && (secret->back() == '\n' || secret->back() == '\r')) secret->pop_back();
  if (secret->size() < 16) {
    return error(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: {} holds {} characters; use at least 16", path, key, secret->size()));
  }
  return secret;
}

Result<std::string> read_secret(const protocol::Config& config) {
  if (config.cluster.secret_file.empty()) return std::string();
  return read_key_file(config.cluster.secret_file, "[cluster] secret_file");
}

void configure_log(const protocol::Config& config, std::string_view process) {
  log::configure(process, level_of(config.log.level));
}

worker::ModelOptions model_options(const protocol::Config& config,
                                   const std::filesystem::path& path) {
  worker::ModelOptions out;
  out.path = path;
  out.dtype = config.model.dtype;
  out.kernels = config.model.kernels;
  out.pack_directory = config.cluster.weights_directory.empty()
                           ? default_weights_directory()
                           : std::filesystem::path(config.cluster.weights_directory);
  out.context_max = config.model.context_max;
  out.threads = threads_of(config);
  out.block_tokens = static_cast<std::uint16_t>(config.decode.block_tokens);
  return out;
}

worker::MemorySettings memory_settings(const protocol::Config& config) {
  return {.slots = config.prefill.slots,
          .send_buffer = config.prefill.send_buffer,
          .prefix_cache = config.prefill.prefix_cache,
          .batch = config.decode.batch,
          .kv_memory = config.decode.kv_memory};
}

Result<std::string> check_memory(const protocol::Config& config, const model::Model& model) {
  const auto plan = worker::MemoryPlan::make(model, model_options(config, config.model.path),
                                             memory_settings(config));
  if (!plan) return std::unexpected(plan.error());
  const int prefill = config.group.prefill;
  const int decode = config.group.decode;
  const int both = config.group.both;
  const Bytes needed = plan->total(prefill, decode, both);
  const auto available = available_memory();
  std::string text = fmt::format("memory: {} MiB are needed ({})", needed.value() >> 20,
                                 plan->describe(prefill, decode, both));
  if (!available) return text;
  text += fmt::format(", {} MiB are available", available->value() >> 20);
  if (needed <= *available) return text;
  return error(ErrorCode::kTooLarge,
               text +
                   "; lower [model] context_max or these keys, start fewer instances, or stop "
                   "other programs");
}

std::string model_name(const protocol::Config& config, const model::Model& model) {
  return config.model.name.empty() ? model.name : config.model.name;
}

Status check_listener(std::string_view host, const std::string& secret, std::string_view key) {
  const bool loopback =
      host.starts_with("127.") || host == "localhost" || host == "::1" || host == "[::1]";
  if (loopback || !secret.empty()) return {};
  return error(ErrorCode::kInvalidArgument,
               fmt::format("{}: {} is reachable from other machines and there is no [cluster] "
                           "secret_file; set one, or use 127.0.0.1",
                           key, host));
}

}  // namespace pd::cli
