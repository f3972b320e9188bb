// One call of a filter, method or function from a template: its arguments by position or name.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "model/chat_template/value.h"

namespace pd::model::jinja {

// Positional and named arguments of one call, behind what it is applied to.
class Call {
 public:
  Call(std::string_view function, const Arguments& arguments, const NamedArguments& named)
      : function_(function), arguments_(arguments), named_(named) {}
  // Argument `index` (from 0) or the one called `name`; nullptr: not given.
  const Value* find(std::size_t index, std::string_view name) const {
    if (index < arguments_.size()) return &arguments_[index];
    for (const auto& [key, value] : named_) {
      if (key == name) return &value;
    }
    return nullptr;
  }
  Value get(std::size_t index, std::string_view name, const Value& standard) const {
    const Value* found = find(index, name);
    return found == nullptr ? standard : *found;
  }
  const Value& need(std::size_t index, std::string_view name) const {
    const Value* found = find(index, name);
    if (found == nullptr) fail(fmt::format("{}() needs an argument '{}'", function_, name));
    return *found;
  }
  std::string text(std::size_t index, std::string_view name, const char* standard) const {
    const Value* found = find(index, name);
    if (found == nullptr || found->is_none()) return standard;
    if (!found->text()) fail(fmt::format("{}(): '{}' must be a string", function_, name));
    return *found->text();
  }
  std::int64_t integer(std::size_t index, std::string_view name, std::int64_t standard) const {
    const Value* found = find(index, name);
    if (found == nullptr || found->is_none()) return standard;
    if (found->boolean()) return *found->boolean();
    if (!found->integer()) fail(fmt::format("{}(): '{}' must be an integer", function_, name));
    return *found->integer();
  }

 private:
  std::string_view function_;
  const Arguments& arguments_;
  const NamedArguments& named_;
};

}  // namespace pd::model::jinja
