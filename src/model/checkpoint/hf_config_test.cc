#include "model/checkpoint/hf_config.h"

#include <gtest/gtest.h>

#include "model/checkpoint/test_files.h"

namespace pd::model {
namespace {

using nlohmann::json;

Result<ModelConfig> parse(const json& config, const std::optional<json>& generation = {}) {
  std::optional<ConfigText> second;
  if (generation) second = ConfigText{"m/generation_config.json", generation->dump()};
  return config_from_huggingface({"m/config.json", config.dump()}, second);
}

json base() { return test::tiny_json(test::tiny_config()); }

// Published files, shortened to the fields that matter.
json llama31() {
  return json::parse(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
    "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu",
    "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 131072,
    "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    "use_cache": true, "vocab_size": 128256})");
}

json qwen25() {
  return json::parse(R"({
    "architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151643, "eos_token_id": 151645,
    "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
    "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2",
    "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
    "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936})");
}

json qwen3() {
  return json::parse(R"({
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "bos_token_id": 151643,
    "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
    "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28,
    "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": null,
    "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true,
    "use_sliding_window": false, "vocab_size": 151936})");
}

json mistral() {
  return json::parse(R"({
    "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": false,
    "vocab_size": 32000})");
}

TEST(HfConfig, Llama31) {
  const auto config = parse(llama31());
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->architecture, "llama");
  EXPECT_EQ(config->head_dim, 128);
  EXPECT_EQ(config->rope_scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(config->rope_scaling.factor, 8.0);
  EXPECT_EQ(config->rope_scaling.original_context, 8192);
  EXPECT_EQ(config->rope_theta, 500000.0);
  EXPECT_EQ(config->eos, (std::vector<TokenId>{128001, 128008, 128009}));
  EXPECT_FALSE(config->tied_embeddings);
  EXPECT_FALSE(config->qkv_bias);
}

TEST(HfConfig, Qwen2HasBiasesAndNoWindowUnlessAskedFor) {
  const auto config = parse(qwen25(), json{{"eos_token_id", {151645, 151643}}});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_TRUE(config->qkv_bias);
  EXPECT_TRUE(config->tied_embeddings);
  EXPECT_EQ(config->head_dim, 64);
  EXPECT_EQ(config->sliding_window, std::nullopt);
  EXPECT_EQ(config->eos, (std::vector<TokenId>{151645, 151643}));
}

TEST(HfConfig, Qwen3HasItsOwnHeadSizeAndNorms) {
  const auto config = parse(qwen3());
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_TRUE(config->qk_norm);
  EXPECT_FALSE(config->qkv_bias);
  EXPECT_EQ(config->head_dim, 128);
  EXPECT_EQ(config->rope_theta, 1000000.0);
}

TEST(HfConfig, MistralSlidesUnlessTheWindowIsNull) {
  EXPECT_EQ(parse(mistral())->sliding_window, Tokens(4096));
  json absent = mistral();
  absent.erase("sliding_window");
  EXPECT_EQ(parse(absent)->sliding_window, Tokens(4096));
  json none = mistral();
  none["sliding_window"] = nullptr;
  EXPECT_EQ(parse(none)->sliding_window, std::nullopt);
}

TEST(HfConfig, QwenSlidesInAllLayersOrNone) {
  json config = qwen25();
  config["use_sliding_window"] = true;
  config["max_window_layers"] = 0;
  EXPECT_EQ(parse(config)->sliding_window, Tokens(32768));
  config["max_window_layers"] = 24;
  EXPECT_EQ(parse(config)->sliding_window, std::nullopt);
  config["max_window_layers"] = 21;
  config["layer_types"] = std::vector<std::string>(24, "sliding_attention");
  EXPECT_EQ(parse(config)->sliding_window, Tokens(32768));
}

TEST(HfConfig, DefaultsAreThoseOfTransformers) {
  json config = base();
  config["hidden_size"] = 24;
  for (const char* key : {"num_key_value_heads", "head_dim", "max_position_embeddings",
                          "rms_norm_eps", "rope_theta", "hidden_act", "model_type"}) {
    config.erase(key);
  }
  const auto llama = parse(config);
  ASSERT_TRUE(llama) << llama.error().message;
  EXPECT_EQ(llama->kv_heads, 4);
  EXPECT_EQ(llama->head_dim, 6);
  EXPECT_EQ(llama->context_max, Tokens(2048));
  EXPECT_EQ(llama->norm_eps, 1e-6F);
  EXPECT_EQ(llama->rope_theta, 10000.0);

  config["num_attention_heads"] = 8;
  config["hidden_size"] = 64;
  config["architectures"] = {"MistralForCausalLM"};
  const auto mistral_model = parse(config);
  ASSERT_TRUE(mistral_model) << mistral_model.error().message;
  EXPECT_EQ(mistral_model->kv_heads, 8);
  EXPECT_EQ(mistral_model->context_max, Tokens(131072));

  config["num_attention_heads"] = 32;
  config["architectures"] = {"Qwen3ForCausalLM"};
  const auto qwen = parse(config);
  ASSERT_TRUE(qwen) << qwen.error().message;
  EXPECT_EQ(qwen->kv_heads, 32);
  EXPECT_EQ(qwen->head_dim, 128);

  // Without `architectures` the model type decides.
  config.erase("architectures");
  config["model_type"] = "qwen2";
  EXPECT_EQ(parse(config)->architecture, "qwen2");
}

TEST(HfConfig, RopeParametersOfTransformers5) {
  json config = llama31();
  config["rope_parameters"] = config["rope_scaling"];
  config["rope_parameters"]["rope_theta"] = 500000.0;
  config.erase("rope_scaling");
  config.erase("rope_theta");
  const auto now = parse(config);
  ASSERT_TRUE(now) << now.error().message;
  EXPECT_EQ(rope_frequencies(*now), rope_frequencies(*parse(llama31())));
}

TEST(HfConfig, OldNamesOfRopeScaling) {
  json config = base();
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 2}};
  const auto linear = parse(config);
  ASSERT_TRUE(linear) << linear.error().message;
  EXPECT_EQ(linear->rope_scaling.kind, RopeScaling::Kind::kLinear);
  EXPECT_EQ(linear->rope_scaling.factor, 2.0);
  config["rope_scaling"] = {{"type", "default"}};
  EXPECT_EQ(parse(config)->rope_scaling.kind, RopeScaling::Kind::kNone);
}

TEST(HfConfig, SpecialIdsMayBeNullOrAbsent) {
  json config = base();
  config["eos_token_id"] = nullptr;
  config["bos_token_id"] = nullptr;
  EXPECT_TRUE(parse(config)->eos.empty());
  EXPECT_EQ(parse(config)->bos, std::nullopt);
  config.erase("eos_token_id");
  config.erase("bos_token_id");
  EXPECT_EQ(parse(config)->eos, std::vector<TokenId>{2});  // the family's default
  EXPECT_EQ(parse(config)->bos, 1);
  EXPECT_EQ(parse(config, json{{"eos_token_id", 5}})->eos, (std::vector<TokenId>{2, 5}));
}

struct Mutation {
  const char* patch;  // RFC 7386: null removes
  const char* problem;
};

class HfConfigMutation : public testing::TestWithParam<Mutation> {};

TEST_P(HfConfigMutation, IsRefusedWithFileAndField) {
  json config = base();
  config.merge_patch(json::parse(GetParam().patch));
  const auto result = parse(config);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message, std::string("m/config.json: ") + GetParam().problem);
}

constexpr Mutation kMutations[] = {
    {R"({"architectures": ["GemmaForCausalLM"]})",
     "architectures: 'GemmaForCausalLM' is not supported (LlamaForCausalLM, MistralForCausalLM, "
     "Qwen2ForCausalLM, Qwen3ForCausalLM are)"},
    {R"({"architectures": [7]})", "architectures: expected a list of strings, found in it 7"},
    {R"({"architectures": null, "model_type": null})", "architectures: is missing"},
    {R"({"quantization_config": {"quant_method": "awq"}})",
     "quantization_config: quantisation 'awq' is not supported; use the F32, F16 or BF16 weights, "
     "or a GGUF file with Q8_0, Q4_0 or Q4_1"},
    {R"({"quantization_config": 4})", "quantization_config: expected an object, found 4"},
    {R"({"hidden_act": "gelu"})", "hidden_act: 'gelu' is not supported (silu is)"},
    {R"({"attention_bias": true})", "attention_bias: true is not supported for this architecture"},
    {R"({"mlp_bias": true})", "mlp_bias: true is not supported"},
    {R"({"mlp_bias": "no"})", "mlp_bias: expected true or false, found 'no'"},
    {R"({"num_hidden_layers": null})", "num_hidden_layers: is missing"},
    {R"({"num_hidden_layers": 0})", "num_hidden_layers: expected an integer in [1, 1024], found 0"},
    {R"({"num_hidden_layers": 1e9})",
     "num_hidden_layers: expected an integer in [1, 1024], found 1000000000.0"},
    {R"({"hidden_size": -12})", "hidden_size: expected an integer in [1, 1048576], found -12"},
    {R"({"hidden_size": 18446744073709551615})",
     "hidden_size: expected an integer in [1, 1048576], found 18446744073709551615"},
    {R"({"intermediate_size": "20"})",
     "intermediate_size: expected an integer in [1, 4194304], found '20'"},
    {R"({"num_attention_heads": [4]})",
     "num_attention_heads: expected an integer in [1, 4096], found a list"},
    {R"({"num_key_value_heads": 3})",
     "num_key_value_heads: 3 does not divide num_attention_heads (4)"},
    {R"({"num_key_value_heads": 8})",
     "num_key_value_heads: 8 does not divide num_attention_heads (4)"},
    {R"({"head_dim": 5})", "head_dim: 5 is odd; rotary position embedding needs an even size"},
    {R"({"head_dim": null, "hidden_size": 13})",
     "head_dim: is missing and cannot be hidden_size (13) / num_attention_heads (4)"},
    {R"({"vocab_size": 16777217})",
     "vocab_size: expected an integer in [1, 16777216], found 16777217"},
    {R"({"max_position_embeddings": 0})",
     "max_position_embeddings: expected an integer in [1, 1073741824], found 0"},
    {R"({"rms_norm_eps": 0})", "rms_norm_eps: expected a number over 0 and under 1, found 0"},
    {R"({"rms_norm_eps": true})", "rms_norm_eps: expected a number over 0 and under 1, found true"},
    {R"({"rope_theta": -1})",
     "rope_theta: expected a number over 1 and under 1000000000000, found -1"},
    {R"({"partial_rotary_factor": 0.5})",
     "partial_rotary_factor: a value other than 1 is not supported"},
    {R"({"rope_scaling": {"rope_type": "yarn", "factor": 4}})",
     "rope_scaling: rope_type: 'yarn' is not supported (default, linear and llama3 are)"},
    {R"({"rope_scaling": {"type": "dynamic", "factor": 4}})",
     "rope_scaling: type: 'dynamic' is not supported (default, linear and llama3 are)"},
    {R"({"rope_scaling": {"type": "linear"}})", "rope_scaling: factor: is missing"},
    {R"({"rope_scaling": {"type": "linear", "factor": 0}})",
     "rope_scaling: factor: expected a number over 0.001 and under 1000000, found 0"},
    {R"({"rope_scaling": "linear"})", "rope_scaling: expected an object, found 'linear'"},
    {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
                          "high_freq_factor": 4}})",
     "rope_scaling: low_freq_factor: 4 is not below high_freq_factor (4)"},
    {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
                          "high_freq_factor": 4, "original_max_position_embeddings": 0}})",
     "rope_scaling: original_max_position_embeddings: expected an integer in [1, 1073741824], "
     "found 0"},
    {R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})",
     "rope_parameters: full_attention: rotary parameters per kind of layer are not supported"},
    {R"({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}})",
     "rope_parameters: partial_rotary_factor: a value other than 1 is not supported"},
    {R"({"bos_token_id": 16})", "bos_token_id: expected a token id in [0, 16), found 16"},
    {R"({"eos_token_id": [2, -1]})", "eos_token_id: expected a token id in [0, 16), found -1"},
    {R"({"eos_token_id": "</s>"})", "eos_token_id: expected a token id in [0, 16), found '</s>'"},
    {R"({"tie_word_embeddings": 1})", "tie_word_embeddings: expected true or false, found 1"},
    {R"({"architectures": ["Qwen2ForCausalLM"], "layer_types": ["full_attention"]})",
     "layer_types: lists 1 layers, num_hidden_layers is 2"},
    {R"({"architectures": ["Qwen2ForCausalLM"],
         "layer_types": ["full_attention", "sliding_attention"]})",
     "layer_types: layers that differ in their attention are not supported"},
    {R"({"architectures": ["Qwen2ForCausalLM"], "layer_types": ["linear", "linear"]})",
     "layer_types: 'linear' is not supported (full_attention and sliding_attention are)"},
    {R"({"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": true,
         "max_window_layers": 1})",
     "max_window_layers: 1: a sliding window in some layers only is not supported"},
    {R"({"architectures": ["MistralForCausalLM"], "sliding_window": 0})",
     "sliding_window: expected an integer in [1, 1073741824], found 0"},
};

INSTANTIATE_TEST_SUITE_P(Table, HfConfigMutation, testing::ValuesIn(kMutations));

TEST(HfConfig, TheSecondFileIsNamedToo) {
  EXPECT_EQ(parse(base(), json{{"eos_token_id", 99}}).error().message,
            "m/generation_config.json: eos_token_id: expected a token id in [0, 16), found 99");
  EXPECT_EQ(parse(base(), json::array()).error().message,
            "m/generation_config.json: expected a JSON object");
  EXPECT_EQ(parse(json(5)).error().message, "m/config.json: expected a JSON object");
}

}  // namespace
}  // namespace pd::model
