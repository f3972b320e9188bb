#include "model/checkpoint/weight_table.h"

#include <fmt/format.h>

#include <set>

#include "model/checkpoint/gguf_config.h"
#include "model/json_text.h"

namespace pd::model {
namespace {

std::string_view stored_name(const WeightSpec& spec, WeightNames names) {
  return names == WeightNames::kHuggingface ? spec.name : spec.gguf_name;
}

void add_layer(const ModelConfig& config, int layer, std::vector<WeightSpec>& out) {
  const std::int64_t hidden = config.hidden;
  const std::int64_t inner = config.intermediate;
  const std::int64_t q_rows = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t kv_rows = std::int64_t{config.kv_heads} * config.head_dim;
  const std::string hf = fmt::format("model.layers.{}.", layer);
  const std::string gg = fmt::format("blk.{}.", layer);
  const auto add = [&](std::string_view name, std::string_view gguf,
                       std::vector<std::int64_t> shape, bool is_rotary = false) {
    out.push_back({fmt::format("{}{}", hf, name), fmt::format("{}{}", gg, gguf), std::move(shape),
                   is_rotary});
  };
  add("input_layernorm.weight", "attn_norm.weight", {hidden});
  add("self_attn.q_proj.weight", "attn_q.weight", {q_rows, hidden}, true);
  add("self_attn.k_proj.weight", "attn_k.weight", {kv_rows, hidden}, true);
  add("self_attn.v_proj.weight", "attn_v.weight", {kv_rows, hidden});
  add("self_attn.o_proj.weight", "attn_output.weight", {hidden, q_rows});
  // Only qwen2 has biases, and its files permute nothing.
  if (config.qkv_bias) {
    add("self_attn.q_proj.bias", "attn_q.bias", {q_rows});
    add("self_attn.k_proj.bias", "attn_k.bias", {kv_rows});
    add("self_attn.v_proj.bias", "attn_v.bias", {kv_rows});
  }
  if (config.qk_norm) {
    add("self_attn.q_norm.weight", "attn_q_norm.weight", {config.head_dim});
    add("self_attn.k_norm.weight", "attn_k_norm.weight", {config.head_dim});
  }
  add("post_attention_layernorm.weight", "ffn_norm.weight", {hidden});
  add("mlp.gate_proj.weight", "ffn_gate.weight", {inner, hidden});
  add("mlp.up_proj.weight", "ffn_up.weight", {inner, hidden});
  add("mlp.down_proj.weight", "ffn_down.weight", {hidden, inner});
}

// Known tensors that the forward pass has no use for: tables of RoPE (config_from_gguf() has read
// rope_freqs), and a second copy of tied embeddings.
bool is_ignorable(std::string_view name, const ModelConfig& config) {
  return name.ends_with(".rotary_emb.inv_freq") || name == "rope_freqs.weight" ||
         (name == "lm_head.weight" && config.tied_embeddings);
}

}  // namespace

std::vector<WeightSpec> weights_of(const ModelConfig& config) {
  std::vector<WeightSpec> out;
  const std::vector<std::int64_t> table = {config.vocab, config.hidden};
  out.push_back({"model.embed_tokens.weight", "token_embd.weight", table});
  for (int layer = 0; layer < config.layers; ++layer) add_layer(config, layer, out);
  out.push_back({"model.norm.weight", "output_norm.weight", {config.hidden}});
  if (!config.tied_embeddings) out.push_back({"lm_head.weight", "output.weight", table});
  return out;
}

TensorDirectory directory_of(const Gguf& gguf) {
  TensorDirectory out;
  for (const auto& [name, tensor] : gguf.tensors()) {
    const DType dtype = tensor.info.dtype;
    out.emplace(name, StoredTensor{gguf.name(), dtype, std::string(to_string(dtype)),
                                   tensor.info.shape, tensor.data});
  }
  return out;
}

TensorDirectory directory_of(const SafetensorsFolder& folder) {
  TensorDirectory out;
  for (const auto& [name, entry] : folder.tensors()) {
    const Safetensors::Tensor& tensor = *entry.tensor;
    out.emplace(std::string(name), StoredTensor{entry.file->name(), tensor.dtype,
                                                tensor.stored_type, tensor.shape, tensor.data});
  }
  return out;
}

Result<WeightTable> bind_weights(const ModelConfig& config, WeightNames names,
                                 const TensorDirectory& directory, std::string_view source) {
  const bool permuted = names == WeightNames::kGguf && has_permuted_rows(config);
  WeightTable out;
  std::set<std::string_view> used;
  for (const WeightSpec& spec : weights_of(config)) {
    const auto at = directory.find(stored_name(spec, names));
    if (at == directory.end()) {
      return error(ErrorCode::kCorrupt,
                   fmt::format("{}: tensor {}: is missing, expected with shape {}", source,
                               quote(stored_name(spec, names)), to_string(spec.shape)));
    }
    const auto& [name, stored] = *at;
    const std::string where = fmt::format("{}: tensor {}", stored.file, quote(name));
    if (stored.shape != spec.shape) {
      return error(ErrorCode::kCorrupt,
                   fmt::format("{}: shape: {}, the configuration needs {}", where,
                               to_string(stored.shape), to_string(spec.shape)));
    }
    if (!stored.dtype) {
      return error(ErrorCode::kUnsupported,
                   fmt::format("{}: dtype: {} is not supported (F32, F16 and BF16 are)", where,
                               stored.type_name));
    }
    used.insert(name);
    const std::int64_t interleaved = permuted && spec.is_rotary ? config.head_dim : 0;
    out.emplace(spec.name, Weight{{*stored.dtype, spec.shape}, stored.data, interleaved});
  }
  for (const auto& [name, stored] : directory) {
    if (used.contains(name) || is_ignorable(name, config)) continue;
    return error(ErrorCode::kUnsupported,
                 fmt::format("{}: tensor {}: is not part of a {} model of {} layers as configured; "
                             "the answers would be wrong without it",
                             stored.file, quote(name), config.architecture, config.layers));
  }
  return out;
}

}  // namespace pd::model
