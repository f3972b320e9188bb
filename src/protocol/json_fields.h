// Typed fields of internal JSON messages (control plane). Keeps the name of the first field that is
// missing or of the wrong type. Only for .cc files of this module.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/role.h"
#include "base/text.h"

namespace pd::protocol {

using Json = nlohmann::json;

std::string_view to_string(Role role);
Result<Role> parse_role(std::string_view text);

// Bytes as hexadecimal text.
inline std::string bytes_to_hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}
inline std::optional<std::string> bytes_from_hex(std::string_view text) {
  if (text.size() % 2 != 0) return std::nullopt;
  std::string out;
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const auto byte = from_hex(text.substr(i, 2));
    if (!byte) return std::nullopt;
    out.push_back(static_cast<char>(*byte));
  }
  return out;
}

class JsonFields {
 public:
  explicit JsonFields(const nlohmann::json& object) : object_(object) {
    if (!object.is_object()) failed_ = "the object";
  }

  std::string text(const char* name) {
    const auto* value = find(name);
    if (value == nullptr || !value->is_string()) return fail(name), std::string();
    return value->get<std::string>();
  }
  bool boolean(const char* name) {
    const auto* value = find(name);
    if (value == nullptr || !value->is_boolean()) return fail(name), false;
    return value->get<bool>();
  }
  double number(const char* name) {
    const auto* value = find(name);
    if (value == nullptr || !value->is_number()) return fail(name), 0.0;
    return value->get<double>();
  }
  // A count or id: not negative, in range of T.
  template <typename T>
  T natural(const char* name) {
    const auto* value = find(name);
    const bool fits =
        value != nullptr && value->is_number_integer() &&
        (value->is_number_unsigned() || value->get<std::int64_t>() >= 0) &&
        value->get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<T>::max());
    if (!fits) return fail(name), T{};
    return value->get<T>();
  }
  std::uint64_t hex(const char* name) {
    const auto value = from_hex(text(name));
    if (!value) fail(name);
    return value.value_or(0);
  }
  std::string bytes(const char* name) {
    auto value = bytes_from_hex(text(name));
    if (!value) fail(name);
    return value ? std::move(*value) : std::string();
  }
  Role role(const char* name) {
    const auto value = parse_role(text(name));
    if (!value) fail(name);
    return value.value_or(Role::kNone);
  }
  // The elements of a list of objects; none when it is missing or too long.
  const nlohmann::json& list(const char* name, std::size_t limit) {
    static const nlohmann::json kEmpty = nlohmann::json::array();
    const auto* value = find(name);
    if (value == nullptr || !value->is_array() || value->size() > limit) return fail(name), kEmpty;
    return *value;
  }
  void adopt(const JsonFields& inner) {
    if (!inner.ok()) fail(inner.failed_);
  }
  bool ok() const { return failed_ == nullptr; }
  template <typename T>
  Result<T> finish(T value, std::string_view message) const {
    if (!ok())
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("{}: bad or missing field '{}'", message, failed_));
    return value;
  }

 private:
  const nlohmann::json* find(const char* name) const {
    if (!object_.is_object()) return nullptr;
    const auto it = object_.find(name);
    return it == object_.end() ? nullptr : &*it;
  }
  void fail(const char* name) {
    if (failed_ == nullptr) failed_ = name;
  }
  const nlohmann::json& object_;
  const char* failed_ = nullptr;
};

inline nlohmann::json parse_quietly(std::string_view text) {
  return nlohmann::json::parse(text, nullptr, false);
}

}  // namespace pd::protocol
