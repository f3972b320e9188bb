#include "cli/settings.h"

#include <fmt/format.h>

#include <cstdio>

#include "base/log.h"
#include "base/mapped_file.h"
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

}  // namespace

void CommonFlags::add_to(CLI::App& app) {
  app.add_option("--config", config, "configuration file (TOML); every key has a default")
      ->type_name("FILE");
  app.add_option("--model", model,
                 "Hugging Face folder, .gguf file, or stories260K (ships with pdserve)")
      ->type_name("PATH");
  app.add_option("--log", log_level, "debug, info, warn, error or off")->type_name("LEVEL");
}

int fail(std::string_view message) {
  fmt::print(stderr, "pdserve: {}\n", message);
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

Result<std::string> read_secret(const protocol::Config& config) {
  if (config.cluster.secret_file.empty()) return std::string();
  auto secret = read_file(config.cluster.secret_file, 4096);
  if (!secret) return secret;
  while (!secret->empty() && (secret->back() == '\n' || secret->back() == '\r')) secret->pop_back();
  if (secret->size() < 16) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: [cluster] secret_file holds {} characters; use at least 16",
                             config.cluster.secret_file, secret->size()));
  }
  return secret;
}

void configure_log(const protocol::Config& config, std::string_view process) {
  log::configure(process, level_of(config.log.level));
}

Tokens context_of(const model::Model& model) { return model.config().context_max; }

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
