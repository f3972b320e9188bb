// Fields that whoever measures adds to every request's body. Pure.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace pd::load {

// Each of `texts` is a JSON object, {"temperature":0}, or KEY=VALUE, where a value that is no JSON
// is a string. As the inside of an object, "temperature":0,"user":"me". Errors say what to write;
// a field that the load sets itself is one.
Result<std::string> parse_extra_fields(const std::vector<std::string>& texts);

}  // namespace pd::load
