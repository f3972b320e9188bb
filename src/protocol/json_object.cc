#include "protocol/json_object.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <utility>
#include <vector>

#include "protocol/json_numbers.h"

namespace pd::protocol {

using simdjson::dom::element;
using simdjson::dom::element_type;

namespace {

using OrderedJson = nlohmann::ordered_json;
using Converted = std::expected<OrderedJson, std::string>;

std::string too_many_keys(const JsonBounds& bounds) {
  return fmt::format("has more than {} keys in one object", bounds.keys_max);
}

Converted converted(element value, const JsonBounds& bounds, int depth_left);

// The map underneath is a list that looks through all of itself at every insertion: keys are
// appended to it, and a table says which are there.
Converted converted_object(simdjson::dom::object object, const JsonBounds& bounds, int depth_left) {
  if (object.size() > static_cast<std::size_t>(bounds.keys_max))
    return std::unexpected(too_many_keys(bounds));
  OrderedJson out = OrderedJson::object();
  std::vector<OrderedJson::object_t::value_type>& items = out.get_ref<OrderedJson::object_t&>();
  items.reserve(object.size());
  std::unordered_map<std::string_view, std::size_t> places;
  places.reserve(object.size());
  for (const auto [key, child] : object) {
    auto item = converted(child, bounds, depth_left - 1);
    if (!item) return item;
    const auto [place, is_new] = places.try_emplace(key, items.size());
    if (is_new)
      items.emplace_back(std::string(key), std::move(*item));
    else
      items[place->second].second = std::move(*item);
  }
  return out;
}

Converted converted(element value, const JsonBounds& bounds, int depth_left) {
  if (depth_left == 0)
    return std::unexpected(fmt::format("is nested deeper than {} levels", bounds.depth_max));
  switch (value.type()) {
    case element_type::OBJECT:
      return converted_object(simdjson::dom::object(value), bounds, depth_left);
    case element_type::ARRAY: {
      OrderedJson out = OrderedJson::array();
      for (const element child : simdjson::dom::array(value)) {
        auto item = converted(child, bounds, depth_left - 1);
        if (!item) return item;
        out.push_back(std::move(*item));
      }
      return out;
    }
    case element_type::STRING:
      return OrderedJson(std::string(std::string_view(value)));
    case element_type::INT64:
      return OrderedJson(std::int64_t(value));
    case element_type::UINT64:
      return OrderedJson(std::uint64_t(value));
    case element_type::DOUBLE:
      return OrderedJson(double(value));
    case element_type::BOOL:
      return OrderedJson(bool(value));
    case element_type::NULL_VALUE:
      break;
  }
  return OrderedJson(nullptr);
}

constexpr std::size_t kKeptCapacityMax = 64 * 1024;  // bytes of a body
// Up to so many bytes a body may have long numbers. Full of them, it takes as long to read as the
// largest bodies do, and integers among them cost a second parse.
constexpr std::size_t kLongNumbersBodyMax = 256 * 1024;

// Empty while one is in use: a parser that is made meanwhile begins with none.
simdjson::dom::parser& kept_parser() {
  thread_local simdjson::dom::parser kept;
  return kept;
}

}  // namespace

// A parser that was moved from is of no use: it still believes to have its memory.
BodyParser::BodyParser() : parser_(std::exchange(kept_parser(), simdjson::dom::parser())) {}

BodyParser::~BodyParser() {
  if (parser_.capacity() <= kKeptCapacityMax) kept_parser() = std::move(parser_);
}

ApiResult<simdjson::dom::object> parse_object(BodyParser& body_parser, std::string_view body) {
  simdjson::dom::parser& parser = body_parser.parser();
  simdjson::dom::object object;
  const auto refused = [](std::string message) {
    return std::unexpected(
        ApiError{400, "invalid_request_error", std::move(message), "", "invalid_json"});
  };
  if (body.empty()) return refused("the body is empty; send a JSON object");
  const bool may_be_long = body.size() <= kLongNumbersBodyMax;
  if (!may_be_long && has_long_number(body)) {
    return refused(fmt::format(
        "a number in the JSON body is out of range: more than 18 digits are read only in bodies of "
        "at most {} bytes",
        kLongNumbersBodyMax));
  }
  auto code = parser.parse(body.data(), body.size(), true).get_object().get(object);
  if (code == simdjson::NUMBER_ERROR && may_be_long)
    code = parser.parse(with_wide_integers(body)).get_object().get(object);
  if (code == simdjson::INCORRECT_TYPE) return refused("the body must be a JSON object");
  if (code == simdjson::NUMBER_ERROR)
    return refused("a number in the JSON body is malformed or out of range");
  if (code)
    return refused(fmt::format("the body is not valid JSON: {}", simdjson::error_message(code)));
  return object;
}

std::optional<std::int64_t> whole_number(element value) {
  constexpr double kExactMax = 9007199254740992;  // 2^53
  std::int64_t whole = 0;
  double number = 0;
  if (!value.get_int64().get(whole)) return whole;
  if (!value.is_double() || value.get_double().get(number)) return std::nullopt;
  if (!(std::abs(number) < kExactMax) || number != std::trunc(number)) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

std::expected<nlohmann::ordered_json, std::string> to_ordered_json(element value,
                                                                   const JsonBounds& bounds) {
  return converted(value, bounds, bounds.depth_max);
}

JsonObject::JsonObject(simdjson::dom::object object, const JsonBounds& bounds) : bounds_(bounds) {
  if (object.size() > static_cast<std::size_t>(bounds.keys_max)) {
    fail({400, "invalid_request_error", fmt::format("the object {}", too_many_keys(bounds)), "",
          "invalid_json"});
    return;
  }
  fields_.reserve(object.size());
  for (const auto [name, value] : object) fields_.push_back({name, value});
}

// Of fields with one name the last counts, as with most readers of JSON.
std::optional<element> JsonObject::find(std::string_view name) {
  std::optional<element> found;
  for (Field& field : fields_) {
    if (field.name != name) continue;
    field.known = true;
    found = field.value;
  }
  if (found && found->is_null()) return std::nullopt;
  return found;
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
  const auto out = whole_number(*value);
  if (!out || *out < low || *out > high) {
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
  auto out = to_ordered_json(*value, bounds_);
  if (out) return std::move(*out);
  fail(invalid_field(name, fmt::format("'{}' {}", name, out.error())));
  return std::nullopt;
}

void JsonObject::label(std::string_view name) { string(name); }

void JsonObject::label(std::string_view name, std::initializer_list<std::string_view> values) {
  const auto value = string(name);
  if (!value || std::ranges::find(values, std::string_view(*value)) != values.end()) return;
  fail(invalid_field(name,
                     fmt::format("'{}' must be one of '{}'", name, fmt::join(values, "', '"))));
}

void JsonObject::flag(std::string_view name) { boolean(name); }

void JsonObject::labels(std::string_view name) {
  const auto value = find(name);
  if (!value) return;
  simdjson::dom::object map;
  bool strings = !value->get_object().get(map);
  if (strings)
    for (const auto [key, label] : map) strings = strings && label.is_string();
  if (!strings) fail(invalid_field(name, fmt::format("'{}' must be an object of strings", name)));
}

void JsonObject::ignore(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) find(name);
}

void JsonObject::unsupported(std::string_view name, std::string_view why,
                             bool (*harmless)(Element)) {
  const auto value = find(name);
  if (!value || (harmless != nullptr && harmless(*value))) return;
  fail(unsupported_field(name, why));
}

std::optional<ApiError> JsonObject::finish() {
  if (error_) return error_;
  for (const Field& field : fields_) {
    if (!field.known) {
      return ApiError{
          400, "invalid_request_error",
          fmt::format("Unrecognized request argument supplied: {}", shortened(field.name)),
          shortened(field.name), "unknown_parameter"};
    }
  }
  return std::nullopt;
}

}  // namespace pd::protocol
