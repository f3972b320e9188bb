#include "protocol/toml_fields.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "protocol/config.h"
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

}  // namespace

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

Field real_field(std::string_view key, double& value, double low, double high) {
  return {key,
          [&value, low, high](const toml::node& node) -> std::string {
            const auto number = node.value<double>();
            if (!node.is_number() || !number || !(*number >= low && *number <= high))
              return fmt::format("must be a number from {} to {}", low, high);
            value = *number;
            return "";
          },
          [&value] { return fmt::format("{:#}", value); }};
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

void read_table(const std::vector<Field>& fields, const toml::table& table, std::string_view where,
                std::string_view name, std::vector<std::string>& mistakes) {
  std::vector<std::string_view> known;
  for (const Field& field : fields) known.push_back(field.key);
  for (const auto& [key, node] : table) {
    const auto line = node.source().begin.line;
    const auto field = std::ranges::find(fields, key.str(), &Field::key);
    if (field == fields.end()) {
      mistakes.push_back(fmt::format("{}:{}: {} {}: unknown key; {}", name, line, where, key.str(),
                                     nearest(key.str(), known)));
      continue;
    }
    if (const std::string must = field->read(node); !must.empty()) {
      mistakes.push_back(fmt::format("{}:{}: {} {}: {}", name, line, where, key.str(), must));
    }
  }
}

std::expected<toml::table, std::string> parse_toml(std::string_view text, std::string_view name) {
  const auto invalid = [&](std::size_t line, std::string_view why) {
    return std::unexpected(fmt::format("{}:{}: not valid TOML: {}", name, line, why));
  };
  if (const auto problem = find_forbidden(text)) return invalid(problem->line, problem->message);
  const std::string plain = ascii_form(text);
  toml::parse_result parsed = toml::parse(plain, name);
  if (parsed && plain != text) parsed = toml::parse(text, name);
  if (!parsed) return invalid(parsed.error().source().begin.line, parsed.error().description());
  return std::move(parsed).table();
}

std::optional<Duration> parse_duration(std::string_view text) {
  const auto value = with_unit(text, kTimeUnits);
  return value ? std::optional(Duration(*value)) : std::nullopt;
}

std::optional<Bytes> parse_bytes(std::string_view text) {
  const auto value = with_unit(text, kByteUnits);
  return value ? std::optional(Bytes(*value)) : std::nullopt;
}

}  // namespace pd::protocol
