#include "model/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "model/chat_files.h"
#include "model/checkpoint/gguf.h"

namespace pd::model {
namespace {

namespace fs = std::filesystem;

std::vector<TokenId> end_ids(const ModelConfig& config, const Tokenizer& tokenizer) {
  std::vector<TokenId> out = config.eos;
  if (const auto id = tokenizer.eos()) out.push_back(*id);
  std::ranges::sort(out);
  out.erase(std::ranges::unique(out).begin(), out.end());
  return out;
}

// "models/llama/" is "llama", "x/m.Q4_1.gguf" is "m.Q4_1", "." is the current folder's name.
std::string display_name(const fs::path& path) {
  std::error_code failed;
  fs::path full = fs::weakly_canonical(path, failed);
  if (failed || !full.has_filename()) full = path;
  return full.extension() == ".gguf" ? full.stem().string() : full.filename().string();
}

// What the files leave open, the tokenizer may know.
void add_token(Json& variables, const char* name, const Tokenizer& tokenizer,
               std::optional<TokenId> id) {
  if (!id || variables.contains(name)) return;
  if (std::string text = tokenizer.token_bytes(*id); !text.empty()) variables[name] = text;
}

std::optional<ChatTemplate> parse_template(const std::string& source, std::string& problem) {
  if (source.empty()) return std::nullopt;
  auto parsed = ChatTemplate::parse(source);
  if (parsed) return std::move(*parsed);
  if (problem.empty()) problem = parsed.error().message;
  return std::nullopt;
}

}  // namespace

const ChatTemplate* Model::template_for(bool has_tools) const {
  if (has_tools && tool_template) return &*tool_template;
  return chat_template ? &*chat_template : nullptr;
}

Result<std::string> chat_template_source(const fs::path& path, const Gguf* gguf) {
  auto files = read_chat_files(path, gguf);
  if (!files) return std::unexpected(files.error());
  return std::move(files->base);
}

Result<Model> Model::open(const fs::path& path) {
  auto checkpoint = Checkpoint::open(path);
  if (!checkpoint) return std::unexpected(checkpoint.error());
  const Gguf* gguf = (*checkpoint)->gguf();
  auto tokenizer =
      gguf != nullptr ? Tokenizer::from_gguf(*gguf) : Tokenizer::from_huggingface(path);
  if (!tokenizer) return std::unexpected(tokenizer.error());
  const ModelConfig& config = (*checkpoint)->config();
  if (tokenizer->vocab_size() > config.vocab) {
    return error(ErrorCode::kIncompatible,
                 fmt::format("{}: the tokenizer has ids up to {}, but the embedding has only {} "
                             "rows; it is another model's",
                             path.string(), tokenizer->vocab_size() - 1, config.vocab));
  }
  auto chat = read_chat_files(path, gguf);
  if (!chat) return std::unexpected(chat.error());

  Model model{.checkpoint = std::move(*checkpoint), .tokenizer = std::move(*tokenizer)};
  model.chat_template = parse_template(chat->base, model.chat_template_error);
  model.tool_template = parse_template(chat->tools, model.chat_template_error);
  model.template_variables = std::move(chat->special_tokens);
  add_token(model.template_variables, "bos_token", model.tokenizer, model.tokenizer.bos());
  add_token(model.template_variables, "eos_token", model.tokenizer, model.tokenizer.eos());
  model.bos_token = model.template_variables.value("bos_token", "");
  model.eos_token = model.template_variables.value("eos_token", "");
  model.eos = end_ids(model.config(), model.tokenizer);
  model.name = display_name(path);
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
