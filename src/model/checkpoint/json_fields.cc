#include "model/checkpoint/json_fields.h"

#include <fmt/format.h>

#include <limits>

#include "model/json_text.h"

namespace pd::model {
namespace {

// Shown in messages; dump() recurses and may be long, so only scalars are printed.
std::string shown(const nlohmann::json& value) {
  if (value.is_string()) return quote(value.get_ref<const std::string&>());
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  return value.dump();
}

std::optional<std::int64_t> as_integer(const nlohmann::json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return std::nullopt;
    }
    return static_cast<std::int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<std::int64_t>();
  return std::nullopt;
}

}  // namespace

JsonFields::JsonFields(const nlohmann::json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object.is_object()) {
    problem_ = Error{ErrorCode::kCorrupt, fmt::format("{}: expected a JSON object", where_)};
  }
}

const nlohmann::json* JsonFields::find(std::string_view key) const {
  if (!object_.is_object()) return nullptr;
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

bool JsonFields::has(std::string_view key) const { return find(key) != nullptr; }

bool JsonFields::is_null(std::string_view key) const {
  if (!object_.is_object()) return false;
  const auto it = object_.find(key);
  return it != object_.end() && it->is_null();
}

void JsonFields::require(std::string_view key) {
  if (!has(key)) fail(key, "is missing");
}

std::int64_t JsonFields::integer(std::string_view key, Range range) {
  require(key);
  return integer_or(key, range, range.low);
}

std::int64_t JsonFields::integer_or(std::string_view key, Range range, std::int64_t fallback) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return fallback;
  const std::optional<std::int64_t> number = as_integer(*value);
  if (!number || *number < range.low || *number > range.high) {
    fail(key, fmt::format("expected an integer in [{}, {}], found {}", range.low, range.high,
                          shown(*value)));
    return fallback;
  }
  return *number;
}

double JsonFields::number(std::string_view key, double low, double high) {
  require(key);
  return number_or(key, low, high, high);
}

double JsonFields::number_or(std::string_view key, double low, double high, double fallback) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return fallback;
  const double number = value->is_number() ? value->get<double>() : low;
  if (!(number > low && number < high)) {
    fail(key,
         fmt::format("expected a number over {} and under {}, found {}", low, high, shown(*value)));
    return fallback;
  }
  return number;
}

bool JsonFields::boolean_or(std::string_view key, bool fallback) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    fail(key, "expected true or false, found " + shown(*value));
    return fallback;
  }
  return value->get<bool>();
}

std::string JsonFields::text_or(std::string_view key, std::string_view fallback) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::string(fallback);
  if (!value->is_string()) {
    fail(key, "expected a string, found " + shown(*value));
    return std::string(fallback);
  }
  return value->get<std::string>();
}

std::vector<std::string> JsonFields::texts(std::string_view key) {
  std::vector<std::string> out;
  const nlohmann::json* value = find(key);
  if (value == nullptr) return out;
  if (!value->is_array()) {
    fail(key, "expected a list of strings, found " + shown(*value));
    return out;
  }
  for (const nlohmann::json& item : *value) {
    if (!item.is_string()) {
      fail(key, "expected a list of strings, found in it " + shown(item));
      return {};
    }
    out.push_back(item.get<std::string>());
  }
  return out;
}

std::vector<TokenId> JsonFields::token_ids(std::string_view key, std::int64_t vocab) {
  constexpr std::size_t kIdsMax = 4096;
  const nlohmann::json* value = find(key);
  if (value == nullptr) return {};
  if (value->is_array() && value->size() > kIdsMax) {
    fail(key,
         fmt::format("a list of {} token ids, more than the limit of {}", value->size(), kIdsMax));
    return {};
  }
  const nlohmann::json list = value->is_array() ? *value : nlohmann::json::array({*value});
  std::vector<TokenId> out;
  for (const nlohmann::json& item : list) {
    const std::optional<std::int64_t> id = as_integer(item);
    if (!id || *id < 0 || *id >= vocab) {
      fail(key, fmt::format("expected a token id in [0, {}), found {}", vocab, shown(item)));
      return {};
    }
    out.push_back(static_cast<TokenId>(*id));
  }
  return out;
}

const nlohmann::json* JsonFields::object(std::string_view key) {
  const nlohmann::json* value = find(key);
  if (value != nullptr && !value->is_object()) {
    fail(key, "expected an object, found " + shown(*value));
    return nullptr;
  }
  return value;
}

void JsonFields::fail(std::string_view key, std::string_view problem, ErrorCode code) {
  if (problem_) return;
  problem_ = Error{code, fmt::format("{}: {}: {}", where_, key, problem)};
}

void JsonFields::adopt(const JsonFields& inner) {
  if (!problem_) problem_ = inner.problem_;
}

std::string JsonFields::where_of(std::string_view key) const {
  return fmt::format("{}: {}", where_, key);
}

Status JsonFields::status() const {
  if (problem_) return std::unexpected(*problem_);
  return {};
}

}  // namespace pd::model
