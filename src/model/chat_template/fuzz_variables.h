// For fuzzers: a template's variables out of arbitrary bytes.
#pragma once

#include <optional>
#include <string_view>

#include "model/chat_template/chat_template.h"

namespace pd::model {

// As the gateway takes them out of a request: an object of valid UTF-8, nested no deeper than
// protocol's ApiLimits::depth_max. Nullopt: it would have refused the request.
inline std::optional<Json> variables_of(std::string_view text) {
  constexpr int kDepthMax = 64;
  bool deep = false;
  const auto shallow = [&](int depth, Json::parse_event_t, Json&) {
    deep = deep || depth > kDepthMax;
    return !deep;
  };
  Json out = Json::parse(text, shallow, /*allow_exceptions=*/false);
  if (deep || !out.is_object()) return std::nullopt;
  return out;
}

}  // namespace pd::model
