// Reads the tokenizer that a GGUF file carries (keys tokenizer.ggml.*), models `llama` and `gpt2`.
// Source of the semantics: github.com/ggml-org/llama.cpp, src/llama-vocab.cpp, and, where that
// simplifies, the vendors' tokenizer.json (docs of pre_tokenizer_of in gguf_pre_tokenizers.h).
#pragma once

#include "base/result.h"
#include "model/checkpoint/gguf.h"
#include "model/tokenizer/tokenizer_parts.h"

namespace pd::model::tokenizing {

Result<TokenizerParts> read_tokenizer_gguf(const Gguf& gguf);

}  // namespace pd::model::tokenizing
