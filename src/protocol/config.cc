#include "protocol/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "protocol/toml_fields.h"

namespace pd::protocol {
namespace {

struct Section {
  std::string_view name;
  std::vector<Field> fields;
};

// The one list of all keys; reading, writing and "did you mean" come from it.
std::vector<Section> sections(Config& c) {
  using std::chrono::hours;
  using std::chrono::milliseconds;
  using std::chrono::seconds;
  return {
      {"model",
       {text_field("path", c.model.path), text_field("name", c.model.name),
        choice_field("dtype", c.model.dtype, {"auto", "f32", "bf16"}),
        choice_field("kernels", c.model.kernels,
                     {"auto", "reference", "avx2", "avx512", "avx512_bf16"}),
        tokens_field("context_max", c.model.context_max)}},
      {"cluster",
       {text_field("directory", c.cluster.directory),
        text_field("weights_directory", c.cluster.weights_directory),
        text_field("secret_file", c.cluster.secret_file),
        duration_field("lease", c.cluster.lease, seconds(2), seconds(60))}},
      {"group",
       {integer_field("prefill", c.group.prefill, 0, 1024),
        integer_field("decode", c.group.decode, 0, 1024),
        integer_field("both", c.group.both, 0, 1024),
        choice_field("whole", c.group.whole, {"off", "auto", "threshold"}),
        tokens_field("whole_tokens", c.group.whole_tokens)}},
      {"gateway",
       {text_field("host", c.gateway.host), integer_field("port", c.gateway.port, 0, 65535),
        duration_field("ttft_limit", c.gateway.ttft_limit, milliseconds(1), hours(1)),
        duration_field("request_limit", c.gateway.request_limit, milliseconds(1), hours(24)),
        duration_field("drain_limit", c.gateway.drain_limit, Duration{}, hours(24)),
        bytes_field("body_bytes_max", c.gateway.body_bytes_max, Bytes(1024)),
        integer_field("connections_max", c.gateway.connections_max, 1, 1'000'000),
        integer_field("loops", c.gateway.loops, 0, 128),
        duration_field("keep_alive_after", c.gateway.keep_alive_after, milliseconds(1), hours(1)),
        choice_field("forwarding", c.gateway.forwarding, {"spread", "fill"}),
        duration_field("hedge_prefill", c.gateway.hedge_prefill, Duration{}, hours(1)),
        text_field("handover_socket", c.gateway.handover_socket),
        text_field("access_file", c.gateway.access_file),
        text_field("tls_certificate", c.gateway.tls_certificate),
        text_field("tls_key", c.gateway.tls_key), text_field("access_log", c.gateway.access_log),
        text_field("admin_host", c.gateway.admin_host),
        integer_field("admin_port", c.gateway.admin_port, -1, 65535),
        text_field("admin_key_file", c.gateway.admin_key_file)}},
      {"worker",
       {text_field("host", c.worker.host), integer_field("threads", c.worker.threads, 0, 1024)}},
      {"prefill",
       {integer_field("slots", c.prefill.slots, 1, 4096),
        integer_field("chunk_tokens", c.prefill.chunk_tokens, 1, 65536),
        bytes_field("send_buffer", c.prefill.send_buffer, Bytes(0)),
        bytes_field("prefix_cache", c.prefill.prefix_cache, Bytes(0))}},
      {"decode",
       {integer_field("batch", c.decode.batch, 1, 4096),
        bytes_field("kv_memory", c.decode.kv_memory, Bytes(0)),
        integer_field("block_tokens", c.decode.block_tokens, 1, 1024)}},
      {"transfer",
       {choice_field("wires", c.transfer.wires, {"auto", "shm", "tcp"}),
        text_field("interface", c.transfer.interface),
        boolean_field("trusted_network", c.transfer.trusted_network),
        choice_field("mode", c.transfer.mode, {"block-free", "block-fixed"})}},
      {"log", {choice_field("level", c.log.level, {"debug", "info", "warn", "error", "off"})}},
  };
}

}  // namespace

std::vector<std::string> validate(const Config& c, std::string_view name) {
  std::vector<std::string> mistakes;
  if (c.group.both > 0 && c.group.prefill == 0 && c.group.decode > 0) {
    mistakes.push_back(
        fmt::format("{}: [group] both: aggregated instances hand nothing to decode ones; set "
                    "decode = 0, or prefill to 1 or more",
                    name));
  } else if (c.group.both == 0 && (c.group.prefill == 0 || c.group.decode == 0)) {
    mistakes.push_back(
        fmt::format("{}: [group] {}: a group needs at least one; set it to 1 or more", name,
                    c.group.prefill == 0 ? "prefill" : "decode"));
  }
  if (c.gateway.request_limit < c.gateway.ttft_limit) {
    mistakes.push_back(fmt::format(
        "{}: [gateway] request_limit: shorter than ttft_limit; set it to at least that", name));
  }
  if (c.gateway.tls_certificate.empty() != c.gateway.tls_key.empty()) {
    mistakes.push_back(
        fmt::format("{}: [gateway] {}: HTTPS needs a certificate and its key; set both or none",
                    name, c.gateway.tls_key.empty() ? "tls_key" : "tls_certificate"));
  }
  if (c.transfer.interface != "lo" && !c.transfer.trusted_network) {
    mistakes.push_back(fmt::format(
        "{}: [transfer] interface: whoever reaches UCX's ports on \"{}\" can harm the instances; "
        "set trusted_network = true if only machines you trust do, or use \"lo\"",
        name, c.transfer.interface));
  }
  if (c.worker.host.empty())
    mistakes.push_back(fmt::format("{}: [worker] host: empty; set it to \"127.0.0.1\"", name));
  if (c.gateway.host.empty())
    mistakes.push_back(fmt::format("{}: [gateway] host: empty; set it to \"127.0.0.1\"", name));
  return mistakes;
}

std::expected<Config, std::vector<std::string>> parse_config(std::string_view text,
                                                             std::string_view name) {
  const auto parsed = parse_toml(text, name);
  if (!parsed) return std::unexpected(std::vector<std::string>{parsed.error()});
  Config config;
  std::vector<std::string> mistakes;
  const std::vector<Section> all = sections(config);
  std::vector<std::string_view> known;
  for (const Section& section : all) known.push_back(section.name);
  for (const auto& [key, node] : *parsed) {
    const auto section = std::ranges::find(all, key.str(), &Section::name);
    if (section == all.end()) {
      mistakes.push_back(fmt::format("{}:{}: {}: unknown section; {}", name,
                                     node.source().begin.line, key.str(),
                                     nearest(key.str(), known)));
    } else if (const toml::table* table = node.as_table()) {
      read_table(section->fields, *table, fmt::format("[{}]", section->name), name, mistakes);
    } else {
      mistakes.push_back(fmt::format("{}:{}: {}: must be a section, written [{}]", name,
                                     node.source().begin.line, key.str(), key.str()));
    }
  }
  // `both` alone is a whole answer: the defaults of the two others are not meant beside it.
  const auto group = (*parsed)["group"];
  if (config.group.both > 0 && !group["prefill"]) config.group.prefill = 0;
  if (config.group.both > 0 && !group["decode"]) config.group.decode = 0;
  if (mistakes.empty()) mistakes = validate(config, name);
  if (!mistakes.empty()) return std::unexpected(std::move(mistakes));
  return config;
}

std::string to_toml(const Config& config) {
  Config copy = config;
  std::string out;
  for (const Section& section : sections(copy)) {
    out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", section.name);
    for (const Field& field : section.fields)
      out += fmt::format("{} = {}\n", field.key, field.write());
  }
  return out;
}

}  // namespace pd::protocol
