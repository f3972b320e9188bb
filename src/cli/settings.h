// Configuration file plus flags, as every subcommand reads them; and from it the options of each
// module.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>

#include "base/result.h"
#include "controller/controller.h"
#include "gateway/gateway.h"
#include "model/model.h"
#include "protocol/config.h"
#include "worker/memory_plan.h"

namespace pd::cli {

// Flags that subcommands share; unset ones leave the file's values.
struct CommonFlags {
  std::string config;
  std::optional<std::string> model;
  std::optional<std::string> log_level;
  void add_to(CLI::App& app);
};

// Reads the file (if any) and applies the flags. Mistakes are printed, one line each; nullopt then.
std::optional<protocol::Config> load_config(const CommonFlags& flags);

// Prints one error line; returns the exit status 1.
int fail(const Error& error);
int fail(std::string_view message);

// A secret from a file of its own, without the line's end; at least 16 characters. `key` names the
// setting in errors.
Result<std::string> read_key_file(const std::string& path, std::string_view key);

// The cluster's secret from its file; empty when none is configured.
Result<std::string> read_secret(const protocol::Config& config);

void configure_log(const protocol::Config& config, std::string_view process);

// What a worker does with the model and how it uses memory. `path` is the model's, found.
worker::ModelOptions model_options(const protocol::Config& config,
                                   const std::filesystem::path& path);
worker::MemorySettings memory_settings(const protocol::Config& config);

// What the group's instances, all on this machine, need, and for what. kTooLarge when it is more
// than there is: says which keys make it less.
Result<std::string> check_memory(const protocol::Config& config, const model::Model& model);

std::string model_name(const protocol::Config& config, const model::Model& model);

// A listener outside this machine needs the secret (G7).
Status check_listener(std::string_view host, const std::string& secret, std::string_view key);

}  // namespace pd::cli
