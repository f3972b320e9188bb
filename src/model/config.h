// The architecture of a decoder-only transformer of the Llama family, as read from a model's files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"

namespace pd::model {

struct RopeScaling {
  // kFactors: one divisor per frequency, as GGUF files store Llama 3.1's scaling.
  enum class Kind { kNone, kLinear, kLlama3, kFactors };
  Kind kind = Kind::kNone;
  double factor = 1.0;                   // kLinear, kLlama3
  double low_freq_factor = 1.0;          // kLlama3
  double high_freq_factor = 4.0;         // kLlama3
  std::int64_t original_context = 8192;  // kLlama3: context before scaling, tokens
  std::vector<float> factors;            // kFactors: head_dim / 2 divisors, each > 0
};

// Llama 2/3/3.1+, TinyLlama, SmolLM2, Mistral: neither flag. Qwen2/2.5: qkv_bias. Qwen3: qk_norm.
struct ModelConfig {
  std::string architecture;  // "llama", "mistral", "qwen2", "qwen3"
  int layers = 0;
  int hidden = 0;
  int intermediate = 0;
  int heads = 0;
  int kv_heads = 0;  // divides heads
  int head_dim = 0;  // even; heads * head_dim need not equal hidden (Qwen3)
  int vocab = 0;     // rows of the embedding
  Tokens context_max;
  float norm_eps = 1e-5F;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling;
  std::optional<Tokens>
      sliding_window;  // attention sees only that many last positions (itself included)
  bool tied_embeddings = false;
  bool qkv_bias = false;
  bool qk_norm = false;  // RMS norm over head_dim of q and k before RoPE
  std::optional<TokenId> bos;
  std::vector<TokenId> eos;  // generation ends at any of them
};

// RoPE's angle per position for each pair of dimensions: head_dim / 2 values, scaling applied.
// Dimension i pairs with i + head_dim / 2 (Hugging Face order). Follows the f32 arithmetic of
// `transformers` step by step, because that is what the models were trained with: at position p an
// angle differs by p times the error of its frequency.
// Source: Su et al. 2021, section 3.2.2; `transformers` modeling_rope_utils.py.
std::vector<float> rope_frequencies(const ModelConfig& config);

}  // namespace pd::model
