#include "protocol/chat_messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace pd::protocol {
namespace {

using Json = nlohmann::ordered_json;
using Mistake = std::optional<ApiError>;

constexpr std::array<std::string_view, 6> kRoles{"developer", "system", "user",
                                                 "assistant", "tool",   "function"};

// The field's value; nullptr when it is absent or null.
const Json* value_in(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

Mistake wrong(const std::string& at, std::string_view what) {
  return invalid_field(at, fmt::format("'{}' {}", at, what));
}

Mistake check_string(const Json& object, const std::string& at, const char* name, bool needed) {
  const Json* value = value_in(object, name);
  if (value == nullptr ? !needed : value->is_string()) return std::nullopt;
  return wrong(fmt::format("{}.{}", at, name), "must be a string");
}

// An object with two strings: {"name", "arguments"}.
Mistake check_pair(const Json* value, const std::string& at, const char* first,
                   const char* second) {
  if (value == nullptr || !value->is_object()) return wrong(at, "must be an object");
  if (auto mistake = check_string(*value, at, first, true)) return mistake;
  return check_string(*value, at, second, true);
}

Mistake check_tool_call(const Json& call, const std::string& at) {
  if (!call.is_object()) return wrong(at, "must be an object");
  if (auto mistake = check_string(call, at, "id", true)) return mistake;
  const Json* type = value_in(call, "type");
  if (type != nullptr && *type == "function")
    return check_pair(value_in(call, "function"), at + ".function", "name", "arguments");
  if (type != nullptr && *type == "custom")
    return check_pair(value_in(call, "custom"), at + ".custom", "name", "input");
  return wrong(at + ".type", "must be 'function' or 'custom'");
}

Mistake check_assistant(const Json& message, const std::string& at) {
  if (auto mistake = check_string(message, at, "refusal", false)) return mistake;
  if (value_in(message, "audio") != nullptr)
    return unsupported_field(at + ".audio", "only text is served");
  const Json* old_call = value_in(message, "function_call");
  if (old_call != nullptr) {
    if (auto mistake = check_pair(old_call, at + ".function_call", "name", "arguments"))
      return mistake;
  }
  const Json* calls = value_in(message, "tool_calls");
  if (calls == nullptr) return std::nullopt;
  if (!calls->is_array()) return wrong(at + ".tool_calls", "must be a list");
  for (std::size_t i = 0; i < calls->size(); ++i) {
    if (auto mistake = check_tool_call((*calls)[i], fmt::format("{}.tool_calls[{}]", at, i)))
      return mistake;
  }
  return std::nullopt;
}

// A part that is text; it may end what a cache is asked to keep, which changes nothing here.
bool is_text(const Json& part) {
  if (!part.is_object()) return false;
  const Json* type = value_in(part, "type");
  const Json* text = value_in(part, "text");
  if (type == nullptr || *type != "text" || text == nullptr || !text->is_string()) return false;
  const Json* mark = value_in(part, "prompt_cache_breakpoint");
  return mark == nullptr ||
         (mark->is_object() && mark->contains("mode") && (*mark)["mode"] == "explicit");
}

// Joins the parts of a message's content.
Mistake settle_content(Json& message, std::string_view role, const std::string& message_at) {
  const std::string at = message_at + ".content";
  if (value_in(message, "content") == nullptr) {
    const bool may_lack = role == "assistant" ? value_in(message, "tool_calls") != nullptr ||
                                                    value_in(message, "function_call") != nullptr
                                              : role == "function" && message.contains("content");
    if (may_lack) return std::nullopt;
    return invalid_field(at, fmt::format("'{}' has no 'content'", message_at));
  }
  Json& content = message["content"];
  if (content.is_string()) return std::nullopt;
  if (role == "function") return wrong(at, "must be a string");
  if (!content.is_array() || content.empty())
    return wrong(at, "must be a string or a list of parts");
  std::string text;
  for (const Json& part : content) {
    if (!is_text(part)) return unsupported_field(at, "only parts of type 'text' are served");
    text += part["text"].get_ref<const std::string&>();
  }
  content = std::move(text);
  return std::nullopt;
}

Mistake settle_message(Json& message, const std::string& at) {
  const Json* role_given = message.is_object() ? value_in(message, "role") : nullptr;
  if (role_given == nullptr || !role_given->is_string())
    return invalid_field(at + ".role", fmt::format("'{}' must be an object with a 'role'", at));
  const std::string role = role_given->get<std::string>();
  if (std::ranges::find(kRoles, role) == kRoles.end()) {
    return wrong(at + ".role",
                 "must be 'developer', 'system', 'user', 'assistant', 'tool' or 'function'");
  }
  if (auto mistake = check_string(message, at, "name", role == "function")) return mistake;
  if (role == "tool") {
    if (auto mistake = check_string(message, at, "tool_call_id", true)) return mistake;
  }
  if (role == "assistant") {
    if (auto mistake = check_assistant(message, at)) return mistake;
  }
  return settle_content(message, role, at);
}

}  // namespace

void read_messages(JsonObject& object, const ApiLimits& limits, Json& out) {
  const auto given = object.find("messages");
  if (!object.ok()) return;
  simdjson::dom::array list;
  if (!given || given->get_array().get(list) || list.size() == 0) {
    object.fail(invalid_field("messages", "'messages' must be a list of at least one message"));
    return;
  }
  if (list.size() > static_cast<std::size_t>(limits.messages_max)) {
    object.fail(invalid_field("messages", fmt::format("{} messages, at most {} are allowed",
                                                      list.size(), limits.messages_max)));
    return;
  }
  auto messages = object.json("messages");
  if (!messages) return;
  for (std::size_t i = 0; i < messages->size(); ++i) {
    if (auto mistake = settle_message((*messages)[i], fmt::format("messages[{}]", i))) {
      object.fail(std::move(*mistake));
      return;
    }
  }
  out = std::move(*messages);
}

}  // namespace pd::protocol
