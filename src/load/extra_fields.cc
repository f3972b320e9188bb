#include "load/extra_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <nlohmann/json.hpp>
#include <string_view>

namespace pd::load {
namespace {

using Json = nlohmann::ordered_json;

// A body with a field twice means what each server makes of it.
constexpr auto kOurs = std::to_array<std::string_view>(
    {"model", "messages", "prompt", "max_tokens", "stream", "stream_options", "ignore_eos"});

bool is_name(std::string_view text) {
  const auto fits = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '-'; };
  return !text.empty() && std::ranges::all_of(text, fits);
}

// An object of whatever one text says; discarded if it says nothing.
Json object_of(const std::string& text) {
  Json json = Json::parse(text, nullptr, false);
  if (json.is_object()) return json;
  const std::size_t equals = text.find('=');
  if (equals == text.npos || !is_name(std::string_view(text).substr(0, equals)))
    return Json::value_t::discarded;
  const std::string value = text.substr(equals + 1);
  Json parsed = Json::parse(value, nullptr, false);
  Json out = Json::object();
  out[text.substr(0, equals)] = parsed.is_discarded() ? Json(value) : std::move(parsed);
  return out;
}

}  // namespace

Result<std::string> parse_extra_fields(const std::vector<std::string>& texts) {
  Json all = Json::object();
  for (const std::string& text : texts) {
    const Json object = object_of(text);
    if (object.is_discarded()) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("'{}' is no field of a body: write KEY=VALUE, temperature=0, or a "
                               "JSON object, '{{\"temperature\":0}}'",
                               text));
    }
    for (const auto& [key, value] : object.items()) {
      if (std::ranges::find(kOurs, key) != kOurs.end()) {
        return error(ErrorCode::kInvalidArgument,
                     fmt::format("the load sets '{}' itself: leave it out, there are --model, "
                                 "--output-tokens, --whole and --no-ignore-eos",
                                 key));
      }
      if (all.contains(key))
        return error(ErrorCode::kInvalidArgument, fmt::format("'{}' is there twice", key));
      all[key] = value;
    }
  }
  const std::string json = all.dump(-1, ' ', false, Json::error_handler_t::replace);
  return json.substr(1, json.size() - 2);
}

}  // namespace pd::load
