// A model as people have it: configuration and weights, tokenizer, chat template, from one folder
// or one file.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/chat_template/chat_template.h"
#include "model/checkpoint/checkpoint.h"
#include "model/tokenizer/tokenizer.h"

namespace pd::model {

// Immutable after open(), usable from several threads.
struct Model {
  std::unique_ptr<Checkpoint> checkpoint;
  Tokenizer tokenizer;
  // The default template of tokenizer_config.json, chat_template.jinja or the GGUF file; none is no
  // error. One that this system cannot render is not either: `chat_template_error` says why, and
  // completions work.
  std::optional<ChatTemplate> chat_template;
  std::string chat_template_error;
  std::string bos_token, eos_token;  // as templates want them; empty: none
  std::vector<TokenId>
      eos;           // every id that ends an output: the configuration's, the tokenizer's, GGUF's
  std::string name;  // the folder's or the file's own

  const ModelConfig& config() const { return checkpoint->config(); }

  // Errors: those of Checkpoint and Tokenizer; kIncompatible when the tokenizer has ids that the
  // embedding lacks.
  static Result<Model> open(const std::filesystem::path& path);
};

// Only what text needs, for commands that touch no weights: `path` may also be a tokenizer.json.
struct TextModel {
  Tokenizer tokenizer;
  static Result<TextModel> open(const std::filesystem::path& path);
};

// The chat template's source in a model's files, empty when it has none.
Result<std::string> chat_template_source(const std::filesystem::path& path, const Gguf* gguf);

}  // namespace pd::model
