// Reads Hugging Face's tokenizer.json (model BPE).
// Source of the semantics: github.com/huggingface/tokenizers, version 0.22.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "model/tokenizer/tokenizer_parts.h"

namespace pd::model::tokenizing {

inline constexpr std::size_t kTokenizerJsonBytesMax = 256u * 1024 * 1024;

// `name` stands for the file in messages.
Result<TokenizerParts> read_tokenizer_json(std::string_view json, const std::string& name);

}  // namespace pd::model::tokenizing
