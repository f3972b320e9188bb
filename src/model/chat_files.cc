#include "model/chat_files.h"

#include <fmt/format.h>

#include <optional>

#include "base/mapped_file.h"
#include "model/checkpoint/gguf.h"
#include "model/json_text.h"

namespace pd::model {
namespace {

constexpr std::size_t kFileBytesMax = 16 << 20;  // lists of added tokens can be long

constexpr const char* kTokenNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};

// nullopt: there is no such file.
Result<std::optional<std::string>> read_optional(const std::filesystem::path& path) {
  auto text = read_file(path, kFileBytesMax);
  if (text) return std::move(*text);
  if (text.error().code == ErrorCode::kNotFound) return std::nullopt;
  return std::unexpected(text.error());
}

std::optional<std::string> string_member(const nlohmann::json& object, std::string_view name) {
  if (!object.is_object()) return std::nullopt;
  const auto member = object.find(name);
  if (member == object.end() || !member->is_string()) return std::nullopt;
  return member->get<std::string>();
}

// A token is a string, or an object with its text in "content"; null stands for none.
Status read_tokens(const nlohmann::json& config, const std::string& file, Json& out) {
  for (const char* name : kTokenNames) {
    const auto member = config.find(name);
    if (member == config.end() || member->is_null()) continue;
    const auto text = member->is_string() ? std::optional(member->get<std::string>())
                                          : string_member(*member, "content");
    if (!text) {
      return error(ErrorCode::kCorrupt,
                   fmt::format("{}: {}: expected a string or an object with content", file, name));
    }
    if (!text->empty()) out[name] = *text;
  }
  return {};
}

// A string, or a list of {"name", "template"} of which two names have a meaning.
Status read_templates(const nlohmann::json& config, const std::string& file, ChatFiles& out) {
  const auto member = config.find("chat_template");
  if (member == config.end() || member->is_null()) return {};
  if (member->is_string()) {
    out.base = member->get<std::string>();
    return {};
  }
  const auto bad = [&file] {
    return error(ErrorCode::kCorrupt,
                 fmt::format("{}: chat_template: expected a string or a list of objects with name "
                             "and template",
                             file));
  };
  if (!member->is_array()) return bad();
  for (const nlohmann::json& item : *member) {
    const auto name = string_member(item, "name");
    const auto text = string_member(item, "template");
    if (!name || !text) return bad();
    if (*name == "default") out.base = *text;
    if (*name == "tool_use") out.tools = *text;
  }
  return {};
}

Status read_json(const std::filesystem::path& path, ChatFiles& out) {
  const auto text = read_optional(path);
  if (!text) return std::unexpected(text.error());
  if (!*text) return {};
  const auto json = parse_json(**text, path.string());
  if (!json) return std::unexpected(json.error());
  if (!json->is_object()) {
    return error(ErrorCode::kCorrupt, fmt::format("{}: expected a JSON object", path.string()));
  }
  if (const Status ok = read_tokens(*json, path.string(), out.special_tokens); !ok) return ok;
  return read_templates(*json, path.string(), out);
}

Status read_folder(const std::filesystem::path& folder, ChatFiles& out) {
  // In this order: the later file's tokens replace those of the earlier.
  for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {
    if (const Status ok = read_json(folder / name, out); !ok) return ok;
  }
  auto base = read_optional(folder / "chat_template.jinja");
  if (!base) return std::unexpected(base.error());
  if (*base) out.base = std::move(**base);
  auto tools = read_optional(folder / "additional_chat_templates" / "tool_use.jinja");
  if (!tools) return std::unexpected(tools.error());
  if (*tools) out.tools = std::move(**tools);
  return {};
}

struct GgufToken {
  const char* key;
  const char* name;
};

constexpr GgufToken kGgufTokens[] = {{"tokenizer.ggml.bos_token_id", "bos_token"},
                                     {"tokenizer.ggml.eos_token_id", "eos_token"},
                                     {"tokenizer.ggml.unknown_token_id", "unk_token"},
                                     {"tokenizer.ggml.padding_token_id", "pad_token"}};

void read_metadata(const Gguf& gguf, ChatFiles& out) {
  if (const auto* text = gguf.string("tokenizer.chat_template")) out.base = *text;
  if (const auto* text = gguf.string("tokenizer.chat_template.tool_use")) out.tools = *text;
  const auto* tokens = gguf.strings("tokenizer.ggml.tokens");
  if (tokens == nullptr) return;
  for (const GgufToken& token : kGgufTokens) {
    const auto id = gguf.integer(token.key);
    if (!id || *id < 0 || static_cast<std::uint64_t>(*id) >= tokens->size()) continue;
    const std::string& text = (*tokens)[static_cast<std::size_t>(*id)];
    if (!text.empty()) out.special_tokens[token.name] = text;
  }
}

}  // namespace

Result<ChatFiles> read_chat_files(const std::filesystem::path& path, const Gguf* gguf) {
  ChatFiles out;
  if (gguf != nullptr) {
    read_metadata(*gguf, out);
  } else if (const Status ok = read_folder(path, out); !ok) {
    return std::unexpected(ok.error());
  }
  return out;
}

}  // namespace pd::model
