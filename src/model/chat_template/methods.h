// Strings as Python has them: case, search, splitting; and what attribute access finds on strings
// and dictionaries.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/chat_template/value.h"

namespace pd::model::jinja {

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);
// At most `count` times; negative: all.
std::string replace_all(const std::string& text, const std::string& from, const std::string& to,
                        std::int64_t count);
std::string join(const std::vector<Value>& items, const std::string& separator);
// (key, value) pairs, in order.
Value dict_items(const Dict& dict);

}  // namespace pd::model::jinja
