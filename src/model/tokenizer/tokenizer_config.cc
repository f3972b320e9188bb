#include "model/tokenizer/tokenizer_config.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/digest.h"
#include "model/json_text.h"

namespace pd::model::tokenizing {
namespace {

// Not simdjson, whose speed tokenizer.json needs: these files have integers beyond 64 bits in
// fields that are not ours (model_max_length 10^30), which simdjson refuses.
using nlohmann::json;

std::unexpected<Error> wrong(const std::string& name, std::string_view key, std::string_view what) {
  return error(ErrorCode::kInvalidArgument, fmt::format("{}.{}: {}", name, key, what));
}

// A token by its text: a string, or an object with "content".
Result<std::optional<TokenId>> read_token(const json& config, const std::string& name,
                                          const char* key, const Vocabulary& vocabulary) {
  const auto member = config.find(key);
  if (member == config.end() || member->is_null()) return std::nullopt;
  const json* text = &*member;
  if (member->is_object() && member->contains("content")) text = &(*member)["content"];
  if (!text->is_string()) return wrong(name, key, "must be a string or have a string \"content\"");
  const auto& content = text->get_ref<const std::string&>();
  if (content.empty()) return std::nullopt;
  const auto id = vocabulary.find(content);
  if (!id) return wrong(name, key, fmt::format("{} is not in the vocabulary", quote(content)));
  return id;
}

Result<bool> read_flag(const json& config, const std::string& name, const char* key) {
  const auto member = config.find(key);
  if (member == config.end() || member->is_null()) return false;
  if (!member->is_boolean()) return wrong(name, key, "must be true or false");
  return member->get<bool>();
}

}  // namespace

Status apply_tokenizer_config(std::string_view text, const std::string& name,
                              TokenizerParts& parts) {
  if (text.size() > kTokenizerConfigBytesMax) {
    return error(ErrorCode::kTooLarge, fmt::format("{}: {} bytes, more than the limit of {}", name,
                                                   text.size(), kTokenizerConfigBytesMax));
  }
  const auto parsed = parse_json(text, name);
  if (!parsed) return std::unexpected(parsed.error());
  const json& config = *parsed;
  if (!config.is_object()) {
    return error(ErrorCode::kInvalidArgument, fmt::format("{}: not a JSON object", name));
  }
  const auto bos = read_token(config, name, "bos_token", parts.vocabulary);
  if (!bos) return std::unexpected(bos.error());
  const auto eos = read_token(config, name, "eos_token", parts.vocabulary);
  if (!eos) return std::unexpected(eos.error());
  const auto add_bos = read_flag(config, name, "add_bos_token");
  if (!add_bos) return std::unexpected(add_bos.error());
  const auto add_eos = read_flag(config, name, "add_eos_token");
  if (!add_eos) return std::unexpected(add_eos.error());
  if (*bos) parts.bos = *bos;
  if (*eos) parts.eos = *eos;
  if (!parts.before.empty() || !parts.behind.empty()) return {};  // the post-processor has spoken
  if (*add_bos) {
    if (!parts.bos) return wrong(name, "add_bos_token", "is true, but there is no bos_token");
    parts.before.push_back(*parts.bos);
  }
  if (*add_eos) {
    if (!parts.eos) return wrong(name, "add_eos_token", "is true, but there is no eos_token");
    parts.behind.push_back(*parts.eos);
  }
  parts.digest = digest64(std::as_bytes(std::span(parts.before)), parts.digest);
  parts.digest = digest64(std::as_bytes(std::span(parts.behind)), parts.digest);
  return {};
}

}  // namespace pd::model::tokenizing
