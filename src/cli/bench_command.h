// Parts of `pdserve bench`. Internal to cli.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "base/result.h"
#include "cli/server_flags.h"
#include "load/generator.h"
#include "load/slo.h"

namespace pd::cli {

struct BenchServeFlags {
  ServerFlags server;
  std::string model;
  std::string api = "auto";  // chat; completions for a server that refuses it
  bool whole = false;        // not streamed
  bool no_ignore_eos = false;
  std::vector<std::string> extra;  // each KEY=VALUE or a JSON object

  std::set<std::string> given;  // names of the options that were named, not left to their defaults

  std::string dataset = "random";
  std::string input = "256", output = "64";
  std::uint32_t prefixes = 8, prefix_tokens = 512;
  std::string turns = "2:6";
  std::string think = "0s";
  std::string trace_from = "0s";
  double speed_up = 1;

  std::size_t requests = 0;  // 0: what the length or the dataset gives
  std::string seconds;       // "30s"; empty: what the requests give
  std::string rate;
  std::string arrivals;
  double burstiness = 0;
  int concurrency = 0;

  std::string slo;
  std::string patience = "10m";
  std::optional<std::uint64_t> seed;       // of lengths and times; 1
  std::optional<std::uint64_t> text_seed;  // of words; what `seed` says, else another each run
  double tokens_per_word = 0;              // 0: asked from the server
  std::string records_file, json_file, html_file;
  bool quiet = false;
};

// The workload, and when it is asked.
struct LoadPlan {
  load::Workload workload;
  load::GeneratorOptions options;
  load::Slo slo;
  std::uint64_t text_seed = 1;
  std::map<std::string, std::string> setting;  // in words, for whoever reads the figures
};
// Errors name the flag.
Result<LoadPlan> plan_load(const BenchServeFlags& flags);

// Where the load goes, and how tokens are counted there.
struct Endpoint {
  std::string api;  // chat or completions
  load::TokenRate tokens;

  std::string path() const { return api == "chat" ? "/chat/completions" : "/completions"; }
};
// Asks the server, as far as the flags leave it open. `patience`: for each request.
Result<Endpoint> find_endpoint(const Server& server, const BenchServeFlags& flags,
                               const std::string& model, Duration patience);

}  // namespace pd::cli
