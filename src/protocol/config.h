// The configuration file (TOML) as a value: parsed and validated once, then handed to each module
// as its own small part. Every key has a default; an empty file is a valid configuration. Every
// mistake is one line that names file, line, key and the fix.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "base/units.h"

namespace pd::protocol {

struct ModelSection {
  std::string path;              // folder or .gguf; "stories260K" names the model that ships
  std::string name;              // what clients ask for; empty: the file's own name
  std::string dtype = "auto";    // auto: f32 files in f32, everything else in bf16
  std::string kernels = "auto";  // auto, reference, avx2, avx512, avx512_bf16
  Tokens context_max{0};  // longest prompt + answer; 0: the model's own. Less takes less memory
};

struct ClusterSection {
  std::string directory;          // state and logs; empty: `up` makes a fresh temporary folder
  std::string weights_directory;  // packed weights, kept between starts; empty: ~/.cache/pdserve
  std::string secret_file;        // shared secret of all processes; empty: `up` makes one
  Duration lease{std::chrono::seconds(5)};  // what a dead holder leaves is free after this
};

struct GroupSection {
  int prefill = 2;
  int decode = 2;
  // Aggregated instances: they alone; or beside prefill ones, whose requests they decode, too.
  int both = 0;
  // Which requests an aggregated instance beside prefill ones serves whole: off, auto (by measured
  // costs), threshold (those with no more than whole_tokens to compute).
  std::string whole = "auto";
  Tokens whole_tokens{256};
};

struct GatewaySection {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;
  Duration ttft_limit{std::chrono::seconds(30)};      // waiting longer for a P ends with 429
  Duration request_limit{std::chrono::seconds(600)};  // absolute deadline of a request
  Duration drain_limit{std::chrono::seconds(10)};     // after SIGTERM, for what is in flight
  Bytes body_bytes_max{10 * 1024 * 1024};
  int connections_max = 10000;
  int loops = 0;  // event loops; 0: one for each core (`up`: one)
  Duration keep_alive_after{std::chrono::seconds(15)};  // a stream silent for so long says it lives
  // Which of several P's with a slot: spread, the least busy; fill, one until it is full, for
  // engines that compute whole batches.
  std::string forwarding = "spread";
  Duration hedge_prefill{};     // a prefill silent for so long gets a second one; 0: never
  std::string handover_socket;  // where a new process takes over from the one that serves
  std::string access_file;      // keys and tenants; empty: no keys are asked for
  std::string tls_certificate;  // PEM files; both or none
  std::string tls_key;
  std::string access_log;                // file for a line per request; empty: none
  std::string admin_host = "127.0.0.1";  // of the operator's port
  std::int32_t admin_port = -1;          // -1: none, 0: the system chooses
  std::string admin_key_file;            // empty: the cluster's secret
};

struct WorkerSection {
  std::string host = "127.0.0.1";
  int threads = 0;  // per instance; 0: cores divided by instances, at least 1
};

struct PrefillSection {
  int slots = 4;  // b_p: prompts held at once, from acceptance until their KV has left
  int chunk_tokens =
      256;  // prompt tokens per engine step; larger is faster, smaller lets short prompts pass
  Bytes send_buffer{
      0};  // 0: what `slots` prompts of the longest length need, above 256 MiB only one's
  Bytes prefix_cache{256 * 1024 * 1024};
};

struct DecodeSection {
  int batch = 32;  // requests in one step
  Bytes kv_memory{
      0};  // 0: what `batch` requests of the longest length need, above 1 GiB only two's
  int block_tokens = 16;
};

struct TransferSection {
  std::string wires = "auto";       // auto, shm, tcp
  std::string interface = "lo";     // network interface for tcp
  bool trusted_network = false;     // of any other interface: UCX's ports ask for no credential
  std::string mode = "block-free";  // block-fixed: the measured baseline, one pull per block
};

struct LogSection {
  std::string level = "info";  // debug, info, warn, error, off
};

struct Config {
  ModelSection model;
  ClusterSection cluster;
  GroupSection group;
  GatewaySection gateway;
  WorkerSection worker;
  PrefillSection prefill;
  DecodeSection decode;
  TransferSection transfer;
  LogSection log;
};

// `name` stands for the file in messages. All mistakes at once, in order of appearance, one line
// each.
std::expected<Config, std::vector<std::string>> parse_config(std::string_view toml,
                                                             std::string_view name);

// The whole value as a TOML file that parses to the same value.
std::string to_toml(const Config& config);

// Mistakes that no single key makes (counts that contradict each other); parse_config() has called
// it already, callers that change a parsed value call it again.
std::vector<std::string> validate(const Config& config, std::string_view name);

// "500ms", "30s", "10m"; "64KiB", "1GiB", "100MB". nullopt: not of this form, negative or out of
// range.
std::optional<Duration> parse_duration(std::string_view text);
std::optional<Bytes> parse_bytes(std::string_view text);

}  // namespace pd::protocol
