// JSON out of untrusted files: nesting and duplicates are refused, and no exception leaves.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pd::model {

// `text` from a file, quoted for a one-line message: control characters and invalid UTF-8 escaped,
// cut after about 100 bytes.
std::string quote(std::string_view text);

// Strict JSON with at most 64 levels. A key that occurs twice in one object is an error, because
// two readers would see two different values. Errors (kCorrupt) begin with `name`.
Result<nlohmann::json> parse_json(std::string_view text, std::string_view name);

}  // namespace pd::model
