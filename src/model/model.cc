#include "model/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/mapped_file.h"
#include "model/checkpoint/gguf.h"

namespace pd::model {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kTokenizerConfigBytesMax = 16 * 1024 * 1024;  // added tokens can make it long
constexpr std::size_t kTemplateBytesMax = 4 * 1024 * 1024;

// The template named "default" of a list of {"name": ..., "template": ...}, or the string itself.
std::string template_of(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return {};
  std::string first;
  for (const auto& entry : value) {
    if (!entry.is_object() || !entry.contains("template") || !entry["template"].is_string())
      continue;
    const auto source = entry["template"].get<std::string>();
    if (entry.contains("name") && entry["name"] == "default") return source;
    if (first.empty()) first = source;
  }
  return first;
}

std::string token_text(const Tokenizer& tokenizer, std::optional<TokenId> id) {
  if (!id) return {};
  const std::int32_t ids[] = {*id};
  return tokenizer.decode(ids, false).value_or("");
}

std::vector<TokenId> end_ids(const Checkpoint& checkpoint, const Tokenizer& tokenizer) {
  std::vector<TokenId> out = checkpoint.config().eos;
  if (const auto id = tokenizer.eos()) out.push_back(*id);
  if (const Gguf* gguf = checkpoint.gguf()) {
    for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
      if (const auto id = gguf->integer(key); id && *id >= 0 && *id < checkpoint.config().vocab) {
        out.push_back(static_cast<TokenId>(*id));
      }
    }
  }
  std::ranges::sort(out);
  out.erase(std::ranges::unique(out).begin(), out.end());
  return out;
}

std::string display_name(const fs::path& path) {
  fs::path last = path.filename();
  if (last.empty()) last = path.parent_path().filename();
  return last.extension() == ".gguf" ? last.stem().string() : last.string();
}

}  // namespace

Result<std::string> chat_template_source(const fs::path& path, const Gguf* gguf) {
  if (gguf != nullptr) {
    const std::string* source = gguf->string("tokenizer.chat_template");
    return source == nullptr ? std::string() : *source;
  }
  std::error_code code;
  if (fs::exists(path / "chat_template.jinja", code))
    return read_file(path / "chat_template.jinja", kTemplateBytesMax);
  const fs::path file = path / "tokenizer_config.json";
  if (!fs::exists(file, code)) return std::string();
  auto text = read_file(file, kTokenizerConfigBytesMax);
  if (!text) return text;
  const auto json = nlohmann::json::parse(*text, nullptr, false);
  if (!json.is_object())
    return error(ErrorCode::kInvalidArgument, fmt::format("{}: not a JSON object", file.string()));
  return json.contains("chat_template") ? template_of(json["chat_template"]) : std::string();
}

Result<Model> Model::open(const fs::path& path) {
  auto checkpoint = Checkpoint::open(path);
  if (!checkpoint) return std::unexpected(checkpoint.error());
  const Gguf* gguf = (*checkpoint)->gguf();
  auto tokenizer =
      gguf != nullptr ? Tokenizer::from_gguf(*gguf) : Tokenizer::from_huggingface(path);
  if (!tokenizer) return std::unexpected(tokenizer.error());
  if (tokenizer->vocab_size() > (*checkpoint)->config().vocab) {
    return error(
        ErrorCode::kIncompatible,
        fmt::format("{}: the tokenizer has ids up to {}, the embedding has {} rows", path.string(),
                    tokenizer->vocab_size() - 1, (*checkpoint)->config().vocab));
  }
  auto source = chat_template_source(path, gguf);
  if (!source) return std::unexpected(source.error());
  Model model{std::move(*checkpoint), std::move(*tokenizer), std::nullopt, {}, {}, {}, {},
              display_name(path)};
  if (!source->empty()) {
    auto parsed = ChatTemplate::parse(*source);
    if (parsed)
      model.chat_template = std::move(*parsed);
    else
      model.chat_template_error = parsed.error().message;
  }
  model.bos_token = token_text(model.tokenizer, model.tokenizer.bos());
  model.eos_token = token_text(model.tokenizer, model.tokenizer.eos());
  model.eos = end_ids(*model.checkpoint, model.tokenizer);
  return model;
}

Result<TextModel> TextModel::open(const fs::path& path) {
  auto tokenizer = [&]() -> Result<Tokenizer> {
    if (path.extension() != ".gguf") return Tokenizer::from_huggingface(path);
    auto gguf = Gguf::open(path);
    if (!gguf) return std::unexpected(gguf.error());
    return Tokenizer::from_gguf(**gguf);
  }();
  if (!tokenizer) return std::unexpected(tokenizer.error());
  return TextModel{std::move(*tokenizer)};
}

}  // namespace pd::model
