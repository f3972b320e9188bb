// What a model's files say about turning a conversation into text: the sources of its chat
// templates and the special tokens that templates name.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"
#include "model/chat_template/chat_template.h"

namespace pd::model {

class Gguf;

struct ChatFiles {
  std::string base;  // the template; empty: none
  std::string
      tools;  // the model's own for requests with tools ("tool_use"); empty: base serves both
  // bos_token, eos_token, unk_token, ... as strings; an absent token is an absent member.
  Json special_tokens = Json::object();
};

// `gguf`: the open file, or nullptr when `path` is a Hugging Face folder. There: chat_template in
// tokenizer_config.json (a string or a list of named ones), overridden by chat_template.jinja and
// additional_chat_templates/tool_use.jinja, as `transformers` does; tokens of tokenizer_config.json
// before those of special_tokens_map.json. Missing files are no error; unreadable ones, and fields
// of the wrong type, are (the message names file and field).
Result<ChatFiles> read_chat_files(const std::filesystem::path& path, const Gguf* gguf);

}  // namespace pd::model
