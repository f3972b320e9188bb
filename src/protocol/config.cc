#include "protocol/config.h"

#define TOML_EXCEPTIONS 0
// It asserts what a malformed text makes false ("[." and the like), and says what is wrong right
// after.
#define TOML_ASSERT(condition) static_cast<void>(0)
#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <numeric>
#include <span>
#include <utility>

#include "protocol/toml_text.h"

namespace pd::protocol {
namespace {

struct Unit {
  std::string_view name;
  std::int64_t factor;
};
constexpr Unit kTimeUnits[] = {
    {"ms", 1'000'000}, {"s", 1'000'000'000}, {"m", 60'000'000'000}, {"h", 3'600'000'000'000}};
constexpr Unit kByteUnits[] = {{"B", 1},
                               {"kB", 1000},
                               {"KB", 1000},
                               {"MB", 1000 * 1000},
                               {"GB", 1000 * 1000 * 1000},
                               {"KiB", 1 << 10},
                               {"MiB", 1 << 20},
                               {"GiB", 1 << 30}};

std::optional<std::int64_t> with_unit(std::string_view text, std::span<const Unit> units) {
  std::int64_t number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc() || number < 0) return std::nullopt;
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  for (const Unit& known : units) {
    if (unit != known.name) continue;
    if (number > INT64_MAX / known.factor) return std::nullopt;
    return number * known.factor;
  }
  return std::nullopt;
}

// Edits (insert, delete, replace) between two short words: for "did you mean".
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t next =
          std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = std::exchange(row[j], next);
    }
  }
  return row.back();
}

std::string nearest(std::string_view word, const std::vector<std::string_view>& known) {
  const auto best =
      std::ranges::min_element(known, {}, [&](std::string_view k) { return distance(word, k); });
  if (best == known.end() || distance(word, *best) > 3) {
    std::string all;
    for (const auto k : known) all += (all.empty() ? "" : ", ") + std::string(k);
    return fmt::format("known are: {}", all);
  }
  return fmt::format("did you mean '{}'?", *best);
}

// How one key is read and written.
struct Field {
  std::string_view key;
  // An empty string: done. Otherwise what the value must be.
  std::function<std::string(const toml::node&)> read;
  std::function<std::string()> write;
};

Field text_field(std::string_view key, std::string& value) {
  return {key,
          [&value](const toml::node& node) -> std::string {
            const auto text = node.value_exact<std::string>();
            if (!text) return "must be a string in quotes";
            value = *text;
            return "";
          },
          [&value] {
            std::string out = "\"";
            for (const char c : value) {
              if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
                out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
                continue;
              }
              if (c == '"' || c == '\\') out += '\\';
              out += c;
            }
            return out + "\"";
          }};
}

Field choice_field(std::string_view key, std::string& value,
                   const std::vector<std::string_view>& choices) {
  Field field = text_field(key, value);
  field.read = [&value, choices](const toml::node& node) -> std::string {
    const auto text = node.value_exact<std::string>();
    if (text && std::ranges::count(choices, *text) > 0) {
      value = *text;
      return "";
    }
    std::string all;
    for (const auto choice : choices)
      all += fmt::format("{}\"{}\"", all.empty() ? "" : ", ", choice);
    return "must be one of " + all;
  };
  return field;
}

template <typename T>
Field integer_field(std::string_view key, T& value, std::int64_t low, std::int64_t high) {
  return {key,
          [&value, low, high](const toml::node& node) -> std::string {
            const auto number = node.value_exact<std::int64_t>();
            if (!number || *number < low || *number > high)
              return fmt::format("must be an integer from {} to {}", low, high);
            value = static_cast<T>(*number);
            return "";
          },
          [&value] { return fmt::format("{}", value); }};
}

Field boolean_field(std::string_view key, bool& value) {
  return {key,
          [&value](const toml::node& node) -> std::string {
            const auto flag = node.value_exact<bool>();
            if (!flag) return "must be true or false";
            value = *flag;
            return "";
          },
          [&value] { return std::string(value ? "true" : "false"); }};
}

// 0: no limit of its own.
Field tokens_field(std::string_view key, Tokens& value) {
  return {key,
          [&value](const toml::node& node) -> std::string {
            const auto number = node.value_exact<std::int64_t>();
            if (!number || *number < 0 || *number > INT32_MAX)
              return fmt::format("must be a number of tokens, 0 to {}", INT32_MAX);
            value = Tokens(*number);
            return "";
          },
          [&value] { return fmt::format("{}", value.value()); }};
}

Field duration_field(std::string_view key, Duration& value, Duration low, Duration high) {
  return {key,
          [&value, low, high](const toml::node& node) -> std::string {
            const auto text = node.value_exact<std::string>();
            const auto duration = text ? parse_duration(*text) : std::nullopt;
            if (!duration || *duration < low || *duration > high) {
              return fmt::format("must be a time such as \"500ms\" or \"30s\", from {}s to {}s",
                                 to_seconds(low), to_seconds(high));
            }
            value = *duration;
            return "";
          },
          [&value] {
            return fmt::format(
                "\"{}ms\"", std::chrono::duration_cast<std::chrono::milliseconds>(value).count());
          }};
}

Field bytes_field(std::string_view key, Bytes& value, Bytes low) {
  return {key,
          [&value, low](const toml::node& node) -> std::string {
            const auto text = node.value_exact<std::string>();
            const auto bytes = text ? parse_bytes(*text) : std::nullopt;
            if (!bytes || *bytes < low) {
              return fmt::format("must be a size such as \"64MiB\" or \"1GiB\", at least \"{}B\"",
                                 low.value());
            }
            value = *bytes;
            return "";
          },
          [&value] { return fmt::format("\"{}B\"", value.value()); }};
}

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
        integer_field("both", c.group.both, 0, 1024)}},
      {"gateway",
       {text_field("host", c.gateway.host), integer_field("port", c.gateway.port, 0, 65535),
        duration_field("ttft_limit", c.gateway.ttft_limit, milliseconds(1), hours(1)),
        duration_field("request_limit", c.gateway.request_limit, milliseconds(1), hours(24)),
        bytes_field("body_bytes_max", c.gateway.body_bytes_max, Bytes(1024)),
        integer_field("connections_max", c.gateway.connections_max, 1, 1'000'000)}},
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

void read_section(const Section& section, const toml::table& table, std::string_view name,
                  std::vector<std::string>& mistakes) {
  std::vector<std::string_view> known;
  for (const Field& field : section.fields) known.push_back(field.key);
  for (const auto& [key, node] : table) {
    const auto line = node.source().begin.line;
    const auto field = std::ranges::find(section.fields, key.str(), &Field::key);
    if (field == section.fields.end()) {
      mistakes.push_back(fmt::format("{}:{}: [{}] {}: unknown key; {}", name, line, section.name,
                                     key.str(), nearest(key.str(), known)));
      continue;
    }
    if (const std::string must = field->read(node); !must.empty()) {
      mistakes.push_back(
          fmt::format("{}:{}: [{}] {}: {}", name, line, section.name, key.str(), must));
    }
  }
}

}  // namespace

std::optional<Duration> parse_duration(std::string_view text) {
  const auto value = with_unit(text, kTimeUnits);
  return value ? std::optional(Duration(*value)) : std::nullopt;
}

std::optional<Bytes> parse_bytes(std::string_view text) {
  const auto value = with_unit(text, kByteUnits);
  return value ? std::optional(Bytes(*value)) : std::nullopt;
}

std::vector<std::string> validate(const Config& c, std::string_view name) {
  std::vector<std::string> mistakes;
  if (c.group.both > 0 && (c.group.prefill > 0 || c.group.decode > 0)) {
    mistakes.push_back(
        fmt::format("{}: [group] both: aggregated instances do not mix with prefill and decode "
                    "ones; set prefill = 0 and decode = 0",
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
  const auto invalid = [&](std::size_t line, std::string_view why) {
    return std::unexpected(
        std::vector<std::string>{fmt::format("{}:{}: not valid TOML: {}", name, line, why)});
  };
  if (const auto problem = find_forbidden(text)) return invalid(problem->line, problem->message);
  const std::string plain = ascii_form(text);
  toml::parse_result parsed = toml::parse(plain, name);
  if (parsed && plain != text) parsed = toml::parse(text, name);
  if (!parsed) return invalid(parsed.error().source().begin.line, parsed.error().description());
  Config config;
  std::vector<std::string> mistakes;
  const std::vector<Section> all = sections(config);
  std::vector<std::string_view> known;
  for (const Section& section : all) known.push_back(section.name);
  for (const auto& [key, node] : parsed.table()) {
    const auto section = std::ranges::find(all, key.str(), &Section::name);
    if (section == all.end()) {
      mistakes.push_back(fmt::format("{}:{}: {}: unknown section; {}", name,
                                     node.source().begin.line, key.str(),
                                     nearest(key.str(), known)));
    } else if (const toml::table* table = node.as_table()) {
      read_section(*section, *table, name, mistakes);
    } else {
      mistakes.push_back(fmt::format("{}:{}: {}: must be a section, written [{}]", name,
                                     node.source().begin.line, key.str(), key.str()));
    }
  }
  // `both` alone is a whole answer: the defaults of the two others are not meant beside it.
  const auto group = parsed.table()["group"];
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
