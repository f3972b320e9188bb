#include "protocol/json_object.h"

#include <fmt/format.h>

#include <cmath>

namespace pd::protocol {

using simdjson::dom::element;
using simdjson::dom::element_type;

ApiResult<simdjson::dom::object> parse_object(simdjson::dom::parser& parser,
                                              std::string_view body) {
  simdjson::dom::object object;
  if (body.empty()) {
    return std::unexpected(ApiError{400, "invalid_request_error",
                                    "the body is empty; send a JSON object", "", "invalid_json"});
  }
  const auto code = parser.parse(body.data(), body.size(), true).get_object().get(object);
  if (code == simdjson::INCORRECT_TYPE) {
    return std::unexpected(ApiError{400, "invalid_request_error", "the body must be a JSON object",
                                    "", "invalid_json"});
  }
  if (code) {
    return std::unexpected(
        ApiError{400, "invalid_request_error",
                 fmt::format("the body is not valid JSON: {}", simdjson::error_message(code)), "",
                 "invalid_json"});
  }
  return object;
}

std::optional<nlohmann::ordered_json> to_ordered_json(element value, int depth_left) {
  using Json = nlohmann::ordered_json;
  if (depth_left == 0) return std::nullopt;
  switch (value.type()) {
    case element_type::OBJECT: {
      Json out = Json::object();
      for (const auto [key, child] : simdjson::dom::object(value)) {
        auto converted = to_ordered_json(child, depth_left - 1);
        if (!converted) return std::nullopt;
        out[std::string(key)] = std::move(*converted);
      }
      return out;
    }
    case element_type::ARRAY: {
      Json out = Json::array();
      for (const element child : simdjson::dom::array(value)) {
        auto converted = to_ordered_json(child, depth_left - 1);
        if (!converted) return std::nullopt;
        out.push_back(std::move(*converted));
      }
      return out;
    }
    case element_type::STRING:
      return Json(std::string(std::string_view(value)));
    case element_type::INT64:
      return Json(std::int64_t(value));
    case element_type::UINT64:
      return Json(std::uint64_t(value));
    case element_type::DOUBLE:
      return Json(double(value));
    case element_type::BOOL:
      return Json(bool(value));
    case element_type::NULL_VALUE:
      return Json(nullptr);
  }
  return Json(nullptr);
}

std::optional<element> JsonObject::find(std::string_view name) {
  known_.insert(name);
  element value;
  if (object_.at_key(name).get(value) || value.is_null()) return std::nullopt;
  return value;
}

std::optional<std::string> JsonObject::string(std::string_view name) {
  const auto value = find(name);
  if (!value) return std::nullopt;
  std::string_view text;
  if (value->get_string().get(text)) {
    fail(invalid_field(name, fmt::format("'{}' must be a string", name)));
    return std::nullopt;
  }
  return std::string(text);
}

std::optional<bool> JsonObject::boolean(std::string_view name) {
  const auto value = find(name);
  if (!value) return std::nullopt;
  bool out = false;
  if (value->get_bool().get(out)) {
    fail(invalid_field(name, fmt::format("'{}' must be true or false", name)));
    return std::nullopt;
  }
  return out;
}

std::optional<std::int64_t> JsonObject::integer(std::string_view name, std::int64_t low,
                                                std::int64_t high) {
  const auto value = find(name);
  if (!value) return std::nullopt;
  std::int64_t out = 0;
  if (value->get_int64().get(out) || out < low || out > high) {
    fail(
        invalid_field(name, fmt::format("'{}' must be an integer from {} to {}", name, low, high)));
    return std::nullopt;
  }
  return out;
}

std::optional<double> JsonObject::number(std::string_view name, double low, double high) {
  const auto value = find(name);
  if (!value) return std::nullopt;
  double out = 0;
  if (value->get_double().get(out) || !(out >= low && out <= high)) {
    fail(invalid_field(name, fmt::format("'{}' must be a number from {} to {}", name, low, high)));
    return std::nullopt;
  }
  return out;
}

std::optional<nlohmann::ordered_json> JsonObject::json(std::string_view name) {
  const auto value = find(name);
  if (!value) return std::nullopt;
  auto out = to_ordered_json(*value, depth_max_);
  if (!out)
    fail(
        invalid_field(name, fmt::format("'{}' is nested deeper than {} levels", name, depth_max_)));
  return out;
}

void JsonObject::ignore(std::initializer_list<std::string_view> names) { known_.insert(names); }

void JsonObject::unsupported(std::string_view name, std::string_view why,
                             bool (*harmless)(Element)) {
  const auto value = find(name);
  if (!value || (harmless != nullptr && harmless(*value))) return;
  fail(unsupported_field(name, why));
}

std::optional<ApiError> JsonObject::finish() {
  if (error_) return error_;
  for (const auto [key, value] : object_) {
    if (!known_.contains(key)) {
      return ApiError{400, "invalid_request_error",
                      fmt::format("Unrecognized request argument supplied: {}", key),
                      std::string(key), "unknown_parameter"};
    }
  }
  return std::nullopt;
}

}  // namespace pd::protocol
