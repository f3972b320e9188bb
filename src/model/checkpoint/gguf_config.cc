#include "model/checkpoint/gguf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "model/checkpoint/config_limits.h"
#include "model/json_text.h"

namespace pd::model {
namespace {

// Typed, range-checked metadata. As in JsonFields the first problem sticks.
class Metadata {
 public:
  Metadata(const Gguf& gguf, std::string architecture)
      : gguf_(gguf), prefix_(std::move(architecture) + ".") {}

  std::string key(std::string_view suffix) const { return prefix_ + std::string(suffix); }
  bool has(std::string_view suffix) const { return gguf_.find(key(suffix)) != nullptr; }

  std::int64_t integer(std::string_view suffix, std::int64_t high) {
    if (!has(suffix)) fail(key(suffix), "is missing");
    return integer_or(suffix, high, 1);
  }

  std::int64_t integer_or(std::string_view suffix, std::int64_t high, std::int64_t fallback) {
    if (!has(suffix)) return fallback;
    const auto value = gguf_.integer(key(suffix));
    if (!value || *value < 1 || *value > high) {
      const std::string found = value ? fmt::format(", found {}", *value) : "";
      fail(key(suffix), fmt::format("expected one integer in [1, {}]{}", high, found));
      return fallback;
    }
    return *value;
  }

  double number_or(std::string_view suffix, double low, double high, double fallback) {
    if (!has(suffix)) return fallback;
    const auto value = gguf_.number(key(suffix));
    if (!value || !(*value > low && *value < high)) {
      const std::string found = value ? fmt::format(", found {}", *value) : "";
      fail(key(suffix), fmt::format("expected a number over {} and under {}{}", low, high, found));
      return fallback;
    }
    return *value;
  }

  std::optional<TokenId> token_id(std::string_view full_key, std::int64_t vocab) {
    if (gguf_.find(full_key) == nullptr) return std::nullopt;
    const auto value = gguf_.integer(full_key);
    if (!value || *value < 0 || *value >= vocab) {
      const std::string found = value ? fmt::format(", found {}", *value) : "";
      fail(full_key, fmt::format("expected a token id in [0, {}){}", vocab, found));
      return std::nullopt;
    }
    return static_cast<TokenId>(*value);
  }

  void fail(std::string_view full_key, std::string_view problem,
            ErrorCode code = ErrorCode::kCorrupt) {
    if (problem_) return;
    problem_ =
        Error{code, fmt::format("{}: metadata {}: {}", gguf_.name(), quote(full_key), problem)};
  }
  void fail_tensor(std::string_view tensor, std::string_view problem) {
    if (problem_) return;
    problem_ = Error{ErrorCode::kCorrupt,
                     fmt::format("{}: tensor {}: {}", gguf_.name(), quote(tensor), problem)};
  }
  const std::optional<Error>& problem() const { return problem_; }

 private:
  const Gguf& gguf_;
  std::string prefix_;
  std::optional<Error> problem_;
};

void refuse_unsupported(const Gguf& gguf, Metadata& metadata) {
  if (const auto parts = gguf.integer("split.count"); parts && *parts > 1) {
    metadata.fail("split.count",
                  fmt::format("the model is split into {} files; merge them into one", *parts),
                  ErrorCode::kUnsupported);
  }
  // Present in files of these architectures only when the computation differs.
  for (const std::string_view suffix :
       {"expert_count", "attention.scale", "attention.clamp_kqv", "attention.alibi_bias_max",
        "attention.sliding_window_pattern", "logit_scale", "embedding_scale", "residual_scale",
        "attn_logit_softcapping", "final_logit_softcapping"}) {
    const auto value = gguf.number(metadata.key(suffix));
    if (metadata.has(suffix) && !(value && *value == 0)) {
      metadata.fail(metadata.key(suffix), "is not supported", ErrorCode::kUnsupported);
    }
  }
}

void read_dimensions(const Gguf& gguf, Metadata& metadata, ModelConfig& out) {
  const auto as_int = [](std::int64_t value) { return static_cast<int>(value); };
  out.layers = as_int(metadata.integer("block_count", kLayersMax));
  out.hidden = as_int(metadata.integer("embedding_length", kHiddenMax));
  out.intermediate = as_int(metadata.integer("feed_forward_length", kIntermediateMax));
  out.heads = as_int(metadata.integer("attention.head_count", kHeadsMax));
  out.kv_heads = as_int(metadata.integer_or("attention.head_count_kv", kHeadsMax, out.heads));
  out.context_max = Tokens(metadata.integer("context_length", kContextMax));
  if (!metadata.has("attention.layer_norm_rms_epsilon")) {
    metadata.fail(metadata.key("attention.layer_norm_rms_epsilon"), "is missing");
  }
  out.norm_eps =
      static_cast<float>(metadata.number_or("attention.layer_norm_rms_epsilon", 0, 1, 1e-5));
  if (metadata.has("attention.sliding_window")) {
    out.sliding_window = Tokens(metadata.integer("attention.sliding_window", kContextMax));
  }

  const std::int64_t derived = out.hidden / out.heads;
  out.head_dim = as_int(metadata.integer_or("attention.key_length", kHeadDimMax, derived));
  if (!metadata.has("attention.key_length") &&
      (out.hidden % out.heads != 0 || derived > kHeadDimMax)) {
    metadata.fail(metadata.key("attention.key_length"),
                  fmt::format("is missing and cannot be embedding_length ({}) / head_count ({})",
                              out.hidden, out.heads));
  }
  for (const std::string_view suffix : {"attention.value_length", "rope.dimension_count"}) {
    const std::int64_t size = metadata.integer_or(suffix, kHeadDimMax, out.head_dim);
    if (size != out.head_dim) {
      metadata.fail(metadata.key(suffix),
                    fmt::format("{}, but heads have {} dimensions; a difference is not supported",
                                size, out.head_dim),
                    ErrorCode::kUnsupported);
    }
  }

  const auto embedding = gguf.tensors().find("token_embd.weight");
  if (embedding == gguf.tensors().end()) {
    metadata.fail_tensor("token_embd.weight", "is missing");
    return;
  }
  const std::int64_t vocab = embedding->second.info.shape.front();
  if (vocab > kVocabMax) {
    metadata.fail_tensor("token_embd.weight",
                         fmt::format("{} rows, more than the limit of {}", vocab, kVocabMax));
    return;
  }
  out.vocab = as_int(vocab);
  if (const std::int64_t said = metadata.integer_or("vocab_size", kVocabMax, vocab);
      said != vocab) {
    metadata.fail(metadata.key("vocab_size"),
                  fmt::format("{}, but token_embd.weight has {} rows", said, vocab));
  }
}

// The divisor of one frequency under Llama 3.1's scaling, as converters compute it.
double llama3_factor(double frequency, const RopeScaling& scaling) {
  const double context = static_cast<double>(scaling.original_context);
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < context / scaling.high_freq_factor) return 1;
  if (wavelength > context / scaling.low_freq_factor) return scaling.factor;
  const double smooth = (context / wavelength - scaling.low_freq_factor) /
                        (scaling.high_freq_factor - scaling.low_freq_factor);
  return 1 / ((1 - smooth) / scaling.factor + smooth);
}

// The published models all have low 1, high 4 and an original context of 8192; what differs is the
// factor, which the slowest frequency shows unsmoothed.
std::optional<RopeScaling> recognise_llama3(const std::vector<float>& factors,
                                            const ModelConfig& config) {
  RopeScaling scaling;
  scaling.kind = RopeScaling::Kind::kLlama3;
  scaling.factor = static_cast<double>(factors.back());
  for (std::size_t i = 0; i < factors.size(); ++i) {
    const double frequency =
        std::pow(config.rope_theta, -2.0 * static_cast<double>(i) / config.head_dim);
    const double expected = llama3_factor(frequency, scaling);
    // f32 arithmetic of the converter, amplified by the subtraction in `smooth`.
    if (std::abs(static_cast<double>(factors[i]) - expected) > 1e-4 * expected) return std::nullopt;
  }
  return scaling;
}

void read_rope_factors(const Gguf& gguf, Metadata& metadata, ModelConfig& out) {
  constexpr std::string_view kName = "rope_freqs.weight";
  const auto tensor = gguf.tensors().find(kName);
  if (tensor == gguf.tensors().end()) return;
  const std::int64_t pairs = out.head_dim / 2;
  const TensorInfo& info = tensor->second.info;
  if (info.dtype != DType::kF32 || info.shape != std::vector<std::int64_t>{pairs}) {
    metadata.fail_tensor(kName, fmt::format("expected F32 [{}], found {} {}", pairs,
                                            to_string(info.dtype), to_string(info.shape)));
    return;
  }
  std::vector<float> factors(static_cast<std::size_t>(pairs));
  widen(DType::kF32, tensor->second.data, factors);
  for (const float factor : factors) {
    if (!(static_cast<double>(factor) > kRopeFactorMin &&
          static_cast<double>(factor) < kRopeFactorMax)) {
      metadata.fail_tensor(kName, fmt::format("holds {}, expected factors over {} and under {}",
                                              factor, kRopeFactorMin, kRopeFactorMax));
      return;
    }
  }
  if (std::ranges::all_of(factors, [](float factor) { return factor == 1.0F; })) return;
  const RopeScaling linear = out.rope_scaling;
  out.rope_scaling = {};
  if (const auto llama3 = recognise_llama3(factors, out);
      llama3 && linear.kind == RopeScaling::Kind::kNone) {
    out.rope_scaling = *llama3;
    return;
  }
  for (float& factor : factors) factor *= static_cast<float>(linear.factor);
  out.rope_scaling.kind = RopeScaling::Kind::kFactors;
  out.rope_scaling.factors = std::move(factors);
}

void read_rope(const Gguf& gguf, Metadata& metadata, ModelConfig& out) {
  out.rope_theta = metadata.number_or("rope.freq_base", kRopeThetaMin, kRopeThetaMax, 10000.0);
  const std::string type_key = metadata.key("rope.scaling.type");
  const std::string* type = gguf.string(type_key);
  if (type != nullptr && *type != "none" && *type != "linear") {
    metadata.fail(type_key, quote(*type) + " is not supported (none and linear are)",
                  ErrorCode::kUnsupported);
    return;
  }
  if (const double scale = metadata.number_or("rope.scaling.attn_factor", 0, 1e6, 1.0);
      scale != 1.0) {
    metadata.fail(metadata.key("rope.scaling.attn_factor"), "a value other than 1 is not supported",
                  ErrorCode::kUnsupported);
  }
  // 0 means none, and so does a file that only says "linear". `scale_linear` is the old name.
  const std::string_view factor_key =
      metadata.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  const double factor = gguf.number(metadata.key(factor_key)) == 0.0
                            ? 1.0
                            : metadata.number_or(factor_key, kRopeFactorMin, kRopeFactorMax, 1.0);
  if (factor != 1.0 && (type == nullptr || *type == "linear")) {
    out.rope_scaling.kind = RopeScaling::Kind::kLinear;
    out.rope_scaling.factor = factor;
  }
  for (const std::string_view name : {"rope_factors_long.weight", "rope_factors_short.weight"}) {
    if (gguf.tensors().contains(name)) metadata.fail_tensor(name, "LongRoPE is not supported");
  }
  read_rope_factors(gguf, metadata, out);
}

}  // namespace

Result<ModelConfig> config_from_gguf(const Gguf& gguf) {
  constexpr std::string_view kArchitecture = "general.architecture";
  const std::string* architecture = gguf.string(kArchitecture);
  Metadata metadata(gguf, architecture == nullptr ? "" : *architecture);
  ModelConfig out;
  if (architecture == nullptr) {
    metadata.fail(kArchitecture, "is missing");
  } else if (*architecture != "llama" && *architecture != "qwen2" && *architecture != "qwen3") {
    metadata.fail(kArchitecture,
                  quote(*architecture) + " is not supported (llama, qwen2 and qwen3 are)",
                  ErrorCode::kUnsupported);
  } else {
    out.architecture = *architecture;
    out.qkv_bias = *architecture == "qwen2";
    out.qk_norm = *architecture == "qwen3";
    out.tied_embeddings = !gguf.tensors().contains("output.weight");
    refuse_unsupported(gguf, metadata);
    read_dimensions(gguf, metadata, out);
  }
  if (metadata.problem()) return std::unexpected(*metadata.problem());
  const std::string heads = metadata.key("attention.head_count");
  const std::string kv_heads = metadata.key("attention.head_count_kv");
  const std::string head_dim = metadata.key("attention.key_length");
  if (const Status ok = check_relations(out, {heads, kv_heads, head_dim}, gguf.name()); !ok) {
    return std::unexpected(ok.error());
  }
  read_rope(gguf, metadata, out);
  out.bos = metadata.token_id("tokenizer.ggml.bos_token_id", out.vocab);
  for (const std::string_view key : {"eos", "eot", "eom"}) {
    const auto id = metadata.token_id(fmt::format("tokenizer.ggml.{}_token_id", key), out.vocab);
    if (id && std::ranges::find(out.eos, *id) == out.eos.end()) out.eos.push_back(*id);
  }
  if (metadata.problem()) return std::unexpected(*metadata.problem());
  return out;
}

bool has_permuted_rows(const ModelConfig& config) { return config.architecture == "llama"; }

}  // namespace pd::model
