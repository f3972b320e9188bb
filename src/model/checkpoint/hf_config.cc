#include "model/checkpoint/hf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "model/checkpoint/config_limits.h"
#include "model/checkpoint/json_fields.h"
#include "model/json_text.h"

namespace pd::model {
namespace {

using Range = JsonFields::Range;

// What `transformers` 5.23 assumes when config.json is silent.
struct Family {
  std::string_view class_name;
  std::string_view architecture;  // also `model_type`
  std::int64_t kv_heads = 0;      // 0: as many as heads
  std::int64_t head_dim = 0;      // 0: hidden / heads
  std::int64_t context = 0;
  std::int64_t window = 0;          // 0: none
  std::optional<TokenId> bos = {};  // NOLINT(readability-redundant-member-init)
  std::optional<TokenId> eos = {};  // NOLINT(readability-redundant-member-init)
  bool window_is_optional = false;  // only with use_sliding_window (Qwen)
  bool qkv_bias = false;
  bool qk_norm = false;
};

constexpr std::array<Family, 4> kFamilies = {{
    {.class_name = "LlamaForCausalLM",
     .architecture = "llama",
     .context = 2048,
     .bos = 1,
     .eos = 2},
    {.class_name = "MistralForCausalLM",
     .architecture = "mistral",
     .kv_heads = 8,
     .context = 131072,
     .window = 4096,
     .bos = 1,
     .eos = 2},
    {.class_name = "Qwen2ForCausalLM",
     .architecture = "qwen2",
     .kv_heads = 32,
     .context = 32768,
     .window = 4096,
     .window_is_optional = true,
     .qkv_bias = true},
    {.class_name = "Qwen3ForCausalLM",
     .architecture = "qwen3",
     .kv_heads = 32,
     .head_dim = 128,
     .context = 32768,
     .window = 4096,
     .window_is_optional = true,
     .qk_norm = true},
}};

const Family* family_of(JsonFields& fields) {
  const std::vector<std::string> classes = fields.texts("architectures");
  for (const Family& family : kFamilies) {
    if (std::ranges::find(classes, family.class_name) != classes.end()) return &family;
  }
  const std::string type = fields.text_or("model_type", "");
  for (const Family& family : kFamilies) {
    if (classes.empty() && type == family.architecture) return &family;
  }
  std::string known;
  for (const Family& family : kFamilies) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", family.class_name);
  }
  if (classes.empty() && type.empty()) {
    fields.fail("architectures", "is missing");
  } else {
    fields.fail("architectures",
                fmt::format("{} is not supported ({} are)",
                            quote(classes.empty() ? type : classes.front()), known),
                ErrorCode::kUnsupported);
  }
  return nullptr;
}

// Everything that would make the model compute something else than the forward pass does.
void refuse_unsupported(JsonFields& fields, const Family& family) {
  if (fields.has("quantization_config")) {
    const nlohmann::json* quantisation = fields.object("quantization_config");
    if (quantisation == nullptr) return;
    JsonFields inner(*quantisation, "");
    fields.fail(
        "quantization_config",
        fmt::format("quantisation {} is not supported; use the F32, F16 or BF16 weights, or "
                    "a GGUF file with Q8_0, Q4_0 or Q4_1",
                    quote(inner.text_or("quant_method", "of unknown kind"))),
        ErrorCode::kUnsupported);
  }
  const std::string activation = fields.text_or("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    fields.fail("hidden_act", quote(activation) + " is not supported (silu is)",
                ErrorCode::kUnsupported);
  }
  // Qwen2's q, k and v biases are part of the architecture; its file may say so or not.
  if (!family.qkv_bias && fields.boolean_or("attention_bias", false)) {
    fields.fail("attention_bias", "true is not supported for this architecture",
                ErrorCode::kUnsupported);
  }
  if (fields.boolean_or("mlp_bias", false)) {
    fields.fail("mlp_bias", "true is not supported", ErrorCode::kUnsupported);
  }
}

// The layers' attention kinds as `layer_types` lists them: all full, all sliding, or refused.
// nullopt: the file does not say.
std::optional<bool> all_layers_slide(JsonFields& fields, int layers) {
  const std::vector<std::string> types = fields.texts("layer_types");
  if (types.empty()) return std::nullopt;
  if (types.size() != static_cast<std::size_t>(layers)) {
    fields.fail("layer_types",
                fmt::format("lists {} layers, num_hidden_layers is {}", types.size(), layers));
  }
  for (const std::string& type : types) {
    if (type != "full_attention" && type != "sliding_attention") {
      fields.fail("layer_types",
                  quote(type) + " is not supported (full_attention and sliding_attention are)",
                  ErrorCode::kUnsupported);
    }
    if (type != types.front()) {
      fields.fail("layer_types", "layers that differ in their attention are not supported",
                  ErrorCode::kUnsupported);
    }
  }
  return types.front() == "sliding_attention";
}

std::optional<Tokens> read_window(JsonFields& fields, const Family& family, int layers) {
  if (family.window == 0) return std::nullopt;
  const std::optional<bool> slides = all_layers_slide(fields, layers);
  const std::int64_t size = fields.integer_or("sliding_window", {1, kContextMax}, family.window);
  const std::int64_t first = fields.integer_or("max_window_layers", {0, kContextMax}, 28);
  bool on = !fields.is_null("sliding_window");
  if (family.window_is_optional) {
    on = on && fields.boolean_or("use_sliding_window", false);
    if (on && !slides && first > 0 && first < layers) {
      fields.fail("max_window_layers",
                  fmt::format("{}: a sliding window in some layers only is not supported", first),
                  ErrorCode::kUnsupported);
    }
    if (slides && *slides && !on) {
      fields.fail("layer_types", "sliding_attention, but use_sliding_window is not true");
    }
    on = on && (slides ? *slides : first == 0);
  }
  return on ? std::optional(Tokens(size)) : std::nullopt;
}

void read_llama3(JsonFields& top, JsonFields& rope, RopeScaling& out) {
  out.kind = RopeScaling::Kind::kLlama3;
  out.factor = rope.number("factor", kRopeFactorMin, kRopeFactorMax);
  out.low_freq_factor = rope.number("low_freq_factor", kRopeFactorMin, kRopeFactorMax);
  out.high_freq_factor = rope.number("high_freq_factor", kRopeFactorMin, kRopeFactorMax);
  if (out.high_freq_factor - out.low_freq_factor < kRopeFactorMin) {
    rope.fail("low_freq_factor", fmt::format("{} is not below high_freq_factor ({})",
                                             out.low_freq_factor, out.high_freq_factor));
  }
  constexpr std::string_view kOriginal = "original_max_position_embeddings";
  JsonFields& holder = top.has(kOriginal) ? top : rope;
  if (holder.has(kOriginal)) {
    out.original_context = holder.integer(kOriginal, {1, kContextMax});
  } else {
    out.original_context = top.integer("max_position_embeddings", {1, kContextMax});
  }
}

// The old form (`rope_scaling` and a separate `rope_theta`) and the new one (`rope_parameters`
// with both).
void read_rope(JsonFields& fields, ModelConfig& config) {
  config.rope_theta = fields.number_or("rope_theta", kRopeThetaMin, kRopeThetaMax, 10000.0);
  const auto refuse_partial = [](JsonFields& holder) {
    if (holder.number_or("partial_rotary_factor", 0, 1e6, 1.0) != 1.0) {
      holder.fail("partial_rotary_factor", "a value other than 1 is not supported",
                  ErrorCode::kUnsupported);
    }
  };
  refuse_partial(fields);

  const nlohmann::json* old_form = fields.object("rope_scaling");
  const bool is_old = old_form != nullptr && !old_form->empty();
  const nlohmann::json* object = is_old ? old_form : fields.object("rope_parameters");
  if (object == nullptr) return;
  JsonFields rope(*object, fields.where_of(is_old ? "rope_scaling" : "rope_parameters"));
  for (const auto& [key, value] : object->items()) {
    if (value.is_object()) {
      rope.fail(key, "rotary parameters per kind of layer are not supported",
                ErrorCode::kUnsupported);
    }
  }
  refuse_partial(rope);
  config.rope_theta = rope.number_or("rope_theta", kRopeThetaMin, kRopeThetaMax, config.rope_theta);
  const std::string_view type_key = rope.has("rope_type") ? "rope_type" : "type";
  const std::string type = rope.text_or(type_key, "default");
  if (type == "linear") {
    config.rope_scaling.kind = RopeScaling::Kind::kLinear;
    config.rope_scaling.factor = rope.number("factor", kRopeFactorMin, kRopeFactorMax);
  } else if (type == "llama3") {
    read_llama3(fields, rope, config.rope_scaling);
  } else if (type != "default") {
    rope.fail(type_key, quote(type) + " is not supported (default, linear and llama3 are)",
              ErrorCode::kUnsupported);
  }
  fields.adopt(rope);
}

void read_dimensions(JsonFields& fields, const Family& family, ModelConfig& out) {
  const auto as_int = [](std::int64_t value) { return static_cast<int>(value); };
  out.architecture = family.architecture;
  out.qkv_bias = family.qkv_bias;
  out.qk_norm = family.qk_norm;
  out.layers = as_int(fields.integer("num_hidden_layers", {1, kLayersMax}));
  out.hidden = as_int(fields.integer("hidden_size", {1, kHiddenMax}));
  out.intermediate = as_int(fields.integer("intermediate_size", {1, kIntermediateMax}));
  out.heads = as_int(fields.integer("num_attention_heads", {1, kHeadsMax}));
  out.vocab = as_int(fields.integer("vocab_size", {1, kVocabMax}));

  constexpr std::string_view kKvHeads = "num_key_value_heads";
  const bool kv_as_heads = family.kv_heads == 0 || fields.is_null(kKvHeads);
  out.kv_heads = as_int(
      fields.integer_or(kKvHeads, {1, kHeadsMax}, kv_as_heads ? out.heads : family.kv_heads));

  const std::int64_t derived = family.head_dim > 0 ? family.head_dim : out.hidden / out.heads;
  out.head_dim = as_int(fields.integer_or("head_dim", {2, kHeadDimMax}, derived));
  if (!fields.has("head_dim") && family.head_dim == 0 &&
      (out.hidden % out.heads != 0 || derived > kHeadDimMax || derived < 2)) {
    fields.fail("head_dim", fmt::format("is missing and cannot be hidden_size ({}) / "
                                        "num_attention_heads ({})",
                                        out.hidden, out.heads));
  }
  out.context_max =
      Tokens(fields.integer_or("max_position_embeddings", {1, kContextMax}, family.context));
  out.norm_eps = static_cast<float>(fields.number_or("rms_norm_eps", 0, 1, 1e-6));
  out.tied_embeddings = fields.boolean_or("tie_word_embeddings", false);
}

void add_ids(std::vector<TokenId>& out, const std::vector<TokenId>& ids) {
  for (const TokenId id : ids) {
    if (std::ranges::find(out, id) == out.end()) out.push_back(id);
  }
}

void read_special_ids(JsonFields& fields, const Family& family, ModelConfig& out) {
  const std::vector<TokenId> bos = fields.token_ids("bos_token_id", out.vocab);
  if (!bos.empty()) out.bos = bos.front();
  if (bos.empty() && !fields.is_null("bos_token_id") && family.bos && *family.bos < out.vocab) {
    out.bos = family.bos;
  }
  add_ids(out.eos, fields.token_ids("eos_token_id", out.vocab));
  if (!fields.has("eos_token_id") && !fields.is_null("eos_token_id") && family.eos &&
      *family.eos < out.vocab) {
    out.eos = {*family.eos};
  }
}

}  // namespace

Result<ModelConfig> config_from_huggingface(const ConfigText& config,
                                            const std::optional<ConfigText>& generation) {
  const auto json = parse_json(config.json, config.name);
  if (!json) return std::unexpected(json.error());
  JsonFields fields(*json, config.name);
  if (const Status object = fields.status(); !object) return std::unexpected(object.error());
  const Family* family = family_of(fields);
  if (family == nullptr) return std::unexpected(fields.status().error());

  ModelConfig out;
  refuse_unsupported(fields, *family);
  read_dimensions(fields, *family, out);
  read_rope(fields, out);
  out.sliding_window = read_window(fields, *family, out.layers);
  read_special_ids(fields, *family, out);
  if (const Status ok = fields.status(); !ok) return std::unexpected(ok.error());
  const ConfigFieldNames names{"num_attention_heads", "num_key_value_heads", "head_dim"};
  if (const Status ok = check_relations(out, names, config.name); !ok) {
    return std::unexpected(ok.error());
  }

  if (generation) {
    const auto more = parse_json(generation->json, generation->name);
    if (!more) return std::unexpected(more.error());
    JsonFields extra(*more, generation->name);
    add_ids(out.eos, extra.token_ids("eos_token_id", out.vocab));
    if (const Status ok = extra.status(); !ok) return std::unexpected(ok.error());
  }
  return out;
}

}  // namespace pd::model
