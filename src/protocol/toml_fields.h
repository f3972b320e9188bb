// How a TOML table becomes a value: one Field for each key, which reads, checks and writes it. What
// reads configuration files is built of these, so that every mistake is told alike: one line with
// file, line, key and what the value must be.
#pragma once

#define TOML_EXCEPTIONS 0
// It asserts what a malformed text makes false ("[." and the like), and says what is wrong right
// after.
#define TOML_ASSERT(condition) static_cast<void>(0)
#include <fmt/format.h>
#include <toml++/toml.h>

#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "base/units.h"

namespace pd::protocol {

// How one key is read and written. It refers to the value that it was made for.
struct Field {
  std::string_view key;
  // An empty string: done. Otherwise what the value must be.
  std::function<std::string(const toml::node&)> read;
  std::function<std::string()> write;
};

Field text_field(std::string_view key, std::string& value);
Field choice_field(std::string_view key, std::string& value,
                   const std::vector<std::string_view>& choices);
Field boolean_field(std::string_view key, bool& value);
Field real_field(std::string_view key, double& value, double low, double high);
Field tokens_field(std::string_view key, Tokens& value);  // 0: no limit of its own
Field duration_field(std::string_view key, Duration& value, Duration low, Duration high);
Field bytes_field(std::string_view key, Bytes& value, Bytes low);

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

// The text as a table, or one line that says where it is no TOML. `name` stands for the file.
std::expected<toml::table, std::string> parse_toml(std::string_view text, std::string_view name);

// Reads every key of `table`; `where` is what its mistakes begin with after file and line:
// "[gateway]".
void read_table(const std::vector<Field>& fields, const toml::table& table, std::string_view where,
                std::string_view name, std::vector<std::string>& mistakes);

// "did you mean 'port'?", or the list of what is known.
std::string nearest(std::string_view word, const std::vector<std::string_view>& known);

}  // namespace pd::protocol
