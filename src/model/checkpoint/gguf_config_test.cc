#include "model/checkpoint/gguf_config.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/checkpoint/test_files.h"

namespace pd::model {
namespace {

using test::GgufFile;

Result<ModelConfig> parse(const GgufFile& file) {
  const std::string bytes = file.bytes();
  const auto gguf = Gguf::parse(test::as_bytes(bytes), "m.gguf");
  if (!gguf) return std::unexpected(gguf.error());
  return config_from_gguf(**gguf);
}

TEST(GgufConfig, ReadsWhatTheFileSays) {
  ModelConfig expected = test::tiny_config();
  expected.tied_embeddings = true;
  expected.rope_theta = 5000;
  const auto config = parse(test::tiny_gguf(expected));
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->architecture, "llama");
  EXPECT_EQ(config->layers, 2);
  EXPECT_EQ(config->hidden, 12);
  EXPECT_EQ(config->intermediate, 20);
  EXPECT_EQ(config->heads, 4);
  EXPECT_EQ(config->kv_heads, 2);
  EXPECT_EQ(config->head_dim, 6);
  EXPECT_EQ(config->vocab, 16);
  EXPECT_EQ(config->context_max, Tokens(64));
  EXPECT_EQ(config->norm_eps, 1e-5F);
  EXPECT_EQ(config->rope_theta, 5000.0);
  EXPECT_TRUE(config->tied_embeddings);
  EXPECT_EQ(config->rope_scaling.kind, RopeScaling::Kind::kNone);
  EXPECT_EQ(config->bos, 1);
  EXPECT_EQ(config->eos, std::vector<TokenId>{2});
}

TEST(GgufConfig, FamiliesDifferInBiasNormAndRowOrder) {
  ModelConfig qwen2 = test::tiny_config();
  qwen2.architecture = "qwen2";
  qwen2.qkv_bias = true;
  const auto second = parse(test::tiny_gguf(qwen2));
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_TRUE(second->qkv_bias);
  EXPECT_FALSE(second->tied_embeddings);
  EXPECT_FALSE(has_permuted_rows(*second));

  ModelConfig qwen3 = test::tiny_config();
  qwen3.architecture = "qwen3";
  qwen3.qk_norm = true;
  const auto third = parse(test::tiny_gguf(qwen3));
  ASSERT_TRUE(third) << third.error().message;
  EXPECT_TRUE(third->qk_norm);
  EXPECT_FALSE(has_permuted_rows(*third));
  EXPECT_TRUE(has_permuted_rows(test::tiny_config()));
}

TEST(GgufConfig, HeadSizeDefaultsToTheWidthPerHead) {
  ModelConfig config = test::tiny_config();
  config.hidden = 24;
  GgufFile file = test::tiny_gguf(config);
  file.remove("llama.attention.key_length");
  file.remove("llama.attention.value_length");
  EXPECT_EQ(parse(file)->head_dim, 6);
}

TEST(GgufConfig, EndIdsAreCollected) {
  GgufFile file = test::tiny_gguf(test::tiny_config());
  file.values.push_back(GgufFile::u32("tokenizer.ggml.eot_token_id", 9));
  file.values.push_back(GgufFile::u32("tokenizer.ggml.eom_token_id", 2));
  EXPECT_EQ(parse(file)->eos, (std::vector<TokenId>{2, 9}));
}

TEST(GgufConfig, LinearScaling) {
  GgufFile file = test::tiny_gguf(test::tiny_config());
  file.values.push_back(GgufFile::str("llama.rope.scaling.type", "linear"));
  file.values.push_back(GgufFile::f32("llama.rope.scaling.factor", 4));
  const auto config = parse(file);
  EXPECT_EQ(config->rope_scaling.kind, RopeScaling::Kind::kLinear);
  EXPECT_EQ(config->rope_scaling.factor, 4.0);

  GgufFile old_name = test::tiny_gguf(test::tiny_config());
  old_name.values.push_back(GgufFile::f32("llama.rope.scale_linear", 2));
  EXPECT_EQ(parse(old_name)->rope_scaling.factor, 2.0);

  GgufFile none = test::tiny_gguf(test::tiny_config());
  none.values.push_back(GgufFile::str("llama.rope.scaling.type", "none"));
  none.values.push_back(GgufFile::f32("llama.rope.scaling.factor", 4));
  EXPECT_EQ(parse(none)->rope_scaling.kind, RopeScaling::Kind::kNone);
}

void add_factors(GgufFile& file, const std::vector<float>& factors) {
  GgufFile::Tensor tensor{"rope_freqs.weight", {factors.size()}, 0, ""};
  for (const float factor : factors) tensor.data += test::raw(factor);
  file.tensors.push_back(std::move(tensor));
}

// The divisors that llama.cpp's converter writes for Llama 3.2 (factor 32, theta 500000, 64
// dimensions), computed by its formula in f32.
const std::vector<float> kLlama32Factors = {1,
                                            1,
                                            1,
                                            1,
                                            1,
                                            1,
                                            1,
                                            1,
                                            1,
                                            1,
                                            1,
                                            1,
                                            1,
                                            1,
                                            1,
                                            1.6513292789459229F,
                                            3.2922627925872803F,
                                            9.666730880737305F,
                                            32,
                                            32,
                                            32,
                                            32,
                                            32,
                                            32,
                                            32,
                                            32,
                                            32,
                                            32,
                                            32,
                                            32,
                                            32,
                                            32};

ModelConfig llama32() {
  ModelConfig config = test::tiny_config();
  config.head_dim = 64;
  config.rope_theta = 500000.0;
  return config;
}

TEST(GgufConfig, FactorsOfLlama3BecomeTheScalingTheyCameFrom) {
  GgufFile file = test::tiny_gguf(llama32());
  add_factors(file, kLlama32Factors);
  const auto config = parse(file);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->rope_scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(config->rope_scaling.factor, 32.0);

  ModelConfig huggingface = llama32();
  huggingface.rope_scaling = {RopeScaling::Kind::kLlama3, 32.0, 1.0, 4.0, 8192, {}};
  EXPECT_EQ(rope_frequencies(*config), rope_frequencies(huggingface));
}

TEST(GgufConfig, OtherFactorsStayFactors) {
  GgufFile file = test::tiny_gguf(test::tiny_config());
  add_factors(file, {1.0F, 3.0F, 2.0F});
  const auto config = parse(file);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->rope_scaling.kind, RopeScaling::Kind::kFactors);
  EXPECT_EQ(config->rope_scaling.factors, (std::vector<float>{1.0F, 3.0F, 2.0F}));

  GgufFile both = test::tiny_gguf(test::tiny_config());
  add_factors(both, {1.0F, 3.0F, 2.0F});
  both.values.push_back(GgufFile::f32("llama.rope.scaling.factor", 4));
  EXPECT_EQ(parse(both)->rope_scaling.factors, (std::vector<float>{4.0F, 12.0F, 8.0F}));

  GgufFile ones = test::tiny_gguf(test::tiny_config());
  add_factors(ones, {1.0F, 1.0F, 1.0F});
  EXPECT_EQ(parse(ones)->rope_scaling.kind, RopeScaling::Kind::kNone);
}

struct Mutation {
  const char* name;
  void (*mutate)(GgufFile&);
  const char* problem;
};

class GgufConfigMutation : public testing::TestWithParam<Mutation> {};

TEST_P(GgufConfigMutation, IsRefusedWithFileAndField) {
  GgufFile file = test::tiny_gguf(test::tiny_config());
  GetParam().mutate(file);
  const auto config = parse(file);
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().message, std::string("m.gguf: ") + GetParam().problem);
}

void set_u32(GgufFile& file, const char* key, std::uint32_t value) {
  file.set(key, GgufFile::u32(key, value));
}
void set_f32(GgufFile& file, const char* key, float value) {
  file.set(key, GgufFile::f32(key, value));
}
void set_str(GgufFile& file, const char* key, const char* value) {
  file.set(key, GgufFile::str(key, value));
}

const Mutation kMutations[] = {
    {"NoArchitecture", [](GgufFile& f) { f.remove("general.architecture"); },
     "metadata 'general.architecture': is missing"},
    {"OtherArchitecture", [](GgufFile& f) { set_str(f, "general.architecture", "gemma3"); },
     "metadata 'general.architecture': 'gemma3' is not supported (llama, qwen2 and qwen3 are)"},
    {"Split", [](GgufFile& f) { set_u32(f, "split.count", 3); },
     "metadata 'split.count': the model is split into 3 files; merge them into one"},
    {"Experts", [](GgufFile& f) { set_u32(f, "llama.expert_count", 8); },
     "metadata 'llama.expert_count': is not supported"},
    {"NoLayers", [](GgufFile& f) { f.remove("llama.block_count"); },
     "metadata 'llama.block_count': is missing"},
    {"ZeroLayers", [](GgufFile& f) { set_u32(f, "llama.block_count", 0); },
     "metadata 'llama.block_count': expected one integer in [1, 1024], found 0"},
    {"LayersAsText", [](GgufFile& f) { set_str(f, "llama.block_count", "2"); },
     "metadata 'llama.block_count': expected one integer in [1, 1024]"},
    {"HugeWidth", [](GgufFile& f) { set_u32(f, "llama.embedding_length", 1U << 31); },
     "metadata 'llama.embedding_length': expected one integer in [1, 1048576], found 2147483648"},
    {"NoEpsilon", [](GgufFile& f) { f.remove("llama.attention.layer_norm_rms_epsilon"); },
     "metadata 'llama.attention.layer_norm_rms_epsilon': is missing"},
    {"NegativeEpsilon",
     [](GgufFile& f) { set_f32(f, "llama.attention.layer_norm_rms_epsilon", -1); },
     "metadata 'llama.attention.layer_norm_rms_epsilon': expected a number over 0 and under 1, "
     "found -1"},
    {"KvHeads", [](GgufFile& f) { set_u32(f, "llama.attention.head_count_kv", 3); },
     "llama.attention.head_count_kv: 3 does not divide llama.attention.head_count (4)"},
    {"OddHead",
     [](GgufFile& f) {
       set_u32(f, "llama.attention.key_length", 5);
       set_u32(f, "llama.attention.value_length", 5);
     },
     "llama.attention.key_length: 5 is odd; rotary position embedding needs an even size"},
    {"ValueLength", [](GgufFile& f) { set_u32(f, "llama.attention.value_length", 8); },
     "metadata 'llama.attention.value_length': 8, but heads have 6 dimensions; a difference is not "
     "supported"},
    {"PartialRotary", [](GgufFile& f) { set_u32(f, "llama.rope.dimension_count", 4); },
     "metadata 'llama.rope.dimension_count': 4, but heads have 6 dimensions; a difference is not "
     "supported"},
    {"NoKeyLength",
     [](GgufFile& f) {
       f.remove("llama.attention.key_length");
       set_u32(f, "llama.embedding_length", 13);
     },
     "metadata 'llama.attention.key_length': is missing and cannot be embedding_length (13) / "
     "head_count (4)"},
    {"NoEmbedding", [](GgufFile& f) { f.tensor("token_embd.weight").name = "other"; },
     "tensor 'token_embd.weight': is missing"},
    {"VocabularySize", [](GgufFile& f) { set_u32(f, "llama.vocab_size", 17); },
     "metadata 'llama.vocab_size': 17, but token_embd.weight has 16 rows"},
    {"Yarn", [](GgufFile& f) { set_str(f, "llama.rope.scaling.type", "yarn"); },
     "metadata 'llama.rope.scaling.type': 'yarn' is not supported (none and linear are)"},
    {"NegativeScale", [](GgufFile& f) { set_f32(f, "llama.rope.scaling.factor", -2); },
     "metadata 'llama.rope.scaling.factor': expected a number over 0.001 and under 1000000, found "
     "-2"},
    {"NanTheta", [](GgufFile& f) { set_f32(f, "llama.rope.freq_base", NAN); },
     "metadata 'llama.rope.freq_base': expected a number over 1 and under 1000000000000, found "
     "nan"},
    {"AttentionFactor", [](GgufFile& f) { set_f32(f, "llama.rope.scaling.attn_factor", 2); },
     "metadata 'llama.rope.scaling.attn_factor': a value other than 1 is not supported"},
    {"FactorCount", [](GgufFile& f) { add_factors(f, {1.0F, 2.0F}); },
     "tensor 'rope_freqs.weight': expected F32 [3], found F32 [2]"},
    {"ZeroFactor", [](GgufFile& f) { add_factors(f, {1.0F, 0.0F, 1.0F}); },
     "tensor 'rope_freqs.weight': holds 0, expected factors over 0.001 and under 1000000"},
    {"LongRope",
     [](GgufFile& f) { f.tensors.push_back({"rope_factors_long.weight", {1}, 0, "1234"}); },
     "tensor 'rope_factors_long.weight': LongRoPE is not supported"},
    {"BosOutside", [](GgufFile& f) { set_u32(f, "tokenizer.ggml.bos_token_id", 16); },
     "metadata 'tokenizer.ggml.bos_token_id': expected a token id in [0, 16), found 16"},
    {"EotOutside", [](GgufFile& f) { set_u32(f, "tokenizer.ggml.eot_token_id", 4294967295U); },
     "metadata 'tokenizer.ggml.eot_token_id': expected a token id in [0, 16), found 4294967295"},
};

INSTANTIATE_TEST_SUITE_P(Table, GgufConfigMutation, testing::ValuesIn(kMutations),
                         [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace pd::model
