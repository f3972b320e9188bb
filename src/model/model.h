// A model as people have it: configuration and weights, tokenizer, chat templates, from one folder
// or one file.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "model/chat_template/chat_template.h"
#include "model/checkpoint/checkpoint.h"
#include "model/tokenizer/tokenizer.h"

namespace pd::model {

// Immutable after open(), usable from several threads. Weights are mapped, not read: opening takes
// as long as parsing the metadata and the tokenizer, whatever the size.
struct Model {
  std::unique_ptr<Checkpoint> checkpoint;
  Tokenizer tokenizer;
  // The default template, and the model's own for requests with tools (nullopt: the default serves
  // both). None is no error. One that this system cannot render is not either:
  // `chat_template_error` says why, and completions work.
  std::optional<ChatTemplate> chat_template;
  std::optional<ChatTemplate> tool_template;
  std::string chat_template_error;
  // The variables that every render starts from: bos_token, eos_token and the model's other special
  // tokens by name, as strings. An absent token is an absent variable.
  Json template_variables = Json::object();
  std::string bos_token, eos_token;  // the same two; empty: none
  std::vector<TokenId> eos;          // every id that ends an output: the configuration's (with the
                                     // end-of-turn ids of a GGUF file) and the tokenizer's; sorted
  std::string name;                  // the folder's or the file's own

  const ModelConfig& config() const { return checkpoint->config(); }
  // The template for a request; nullptr: none, and `chat_template_error` may say why.
  const ChatTemplate* template_for(bool has_tools) const;

  // Errors: those of Checkpoint, Tokenizer and read_chat_files(); kIncompatible when the tokenizer
  // has ids that the embedding lacks.
  static Result<Model> open(const std::filesystem::path& path);
};

// Only what text needs, for commands that touch no weights: `path` may also be a tokenizer.json.
struct TextModel {
  Tokenizer tokenizer;
  static Result<TextModel> open(const std::filesystem::path& path);
};

// The default chat template's source in a model's files, empty when it has none.
Result<std::string> chat_template_source(const std::filesystem::path& path, const Gguf* gguf);

}  // namespace pd::model
