// Filters, tests, methods and global functions that templates may use.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "model/chat_template/value.h"

namespace pd::model::jinja {

bool is_filter(std::string_view name);
bool is_test(std::string_view name);

// `arguments[0]` is what the filter or test is applied to.
Value apply_filter(const std::string& name, Arguments arguments, NamedArguments named);
bool apply_test(const std::string& name, const Arguments& arguments);

// range, namespace, dict, raise_exception, strftime_now (UTC, of `unix_seconds`).
std::vector<std::pair<std::string, Value>> global_functions(std::int64_t unix_seconds);

}  // namespace pd::model::jinja
