// The metadata of a GGUF file as a ModelConfig.
#pragma once

#include "base/result.h"
#include "model/checkpoint/gguf.h"
#include "model/config.h"

namespace pd::model {

// Architectures llama (Mistral's files say llama too), qwen2 and qwen3. Tied embeddings are the
// absence of output.weight; the vocabulary is the rows of token_embd.weight. The divisors in
// rope_freqs.weight become the Llama 3.1 scaling that they were computed from where it can be
// recognised, so that frequencies equal those of the Hugging Face form, and kFactors otherwise.
// Errors: kCorrupt, kUnsupported; the message names file and metadata key.
Result<ModelConfig> config_from_gguf(const Gguf& gguf);

// Rows of q and k are permuted for interleaved RoPE.
bool has_permuted_rows(const ModelConfig& config);

}  // namespace pd::model
