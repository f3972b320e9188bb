#include "model/checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include <thread>

#include "model/checkpoint/gguf.h"
#include "model/checkpoint/weight_table.h"

namespace pd::model {
namespace {

const std::filesystem::path kStories =
    std::filesystem::path(PD_SOURCE_DIR) / "assets/models/stories260K";

std::vector<float> read_all(const Checkpoint& model, const std::string& name) {
  const auto info = model.tensor(name);
  EXPECT_TRUE(info) << name;
  const std::int64_t rows = info->shape.size() == 1 ? 1 : info->shape.front();
  std::vector<float> out(static_cast<std::size_t>(rows * info->shape.back()));
  model.read_f32(name, 0, rows, out);
  return out;
}

TEST(Checkpoint, OpensTheHuggingfaceFolder) {
  const auto model = Checkpoint::open(kStories);
  ASSERT_TRUE(model) << model.error().message;
  const ModelConfig& config = (*model)->config();
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.layers, 5);
  EXPECT_EQ(config.hidden, 64);
  EXPECT_EQ(config.intermediate, 172);
  EXPECT_EQ(config.heads, 8);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.vocab, 512);
  EXPECT_EQ(config.context_max, Tokens(512));
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_EQ(config.bos, 1);
  EXPECT_EQ(config.eos, std::vector<TokenId>{2});
  EXPECT_EQ((*model)->gguf(), nullptr);
  EXPECT_EQ((*model)->widest_dtype(), DType::kF32);
  EXPECT_FALSE((*model)->tensor("lm_head.weight"));
  EXPECT_FALSE((*model)->tensor("no.such.tensor"));
}

TEST(Checkpoint, GgufAndHuggingfaceFormsHoldTheSameModel) {
  const auto folder = Checkpoint::open(kStories);
  const auto gguf = Checkpoint::open(kStories / "stories260K-f32.gguf");
  ASSERT_TRUE(folder) << folder.error().message;
  ASSERT_TRUE(gguf) << gguf.error().message;
  ASSERT_NE((*gguf)->gguf(), nullptr);

  const ModelConfig& a = (*folder)->config();
  const ModelConfig& b = (*gguf)->config();
  EXPECT_EQ(a.norm_eps, b.norm_eps);
  EXPECT_EQ(a.rope_theta, b.rope_theta);
  EXPECT_EQ(a.context_max, b.context_max);
  EXPECT_EQ(a.tied_embeddings, b.tied_embeddings);
  EXPECT_EQ(a.head_dim, b.head_dim);
  EXPECT_EQ(a.bos, b.bos);
  EXPECT_EQ(a.eos, b.eos);

  const std::vector<WeightSpec> specs = weights_of(a);
  EXPECT_EQ(specs.size(), 47U);
  for (const WeightSpec& spec : specs) {
    EXPECT_EQ(read_all(**folder, spec.name), read_all(**gguf, spec.name)) << spec.name;
  }
  // The permuted rows are the only ones that cannot be used as stored.
  EXPECT_TRUE((*gguf)->stored_bytes("model.layers.0.self_attn.q_proj.weight").empty());
  EXPECT_EQ((*gguf)->stored_bytes("model.layers.0.self_attn.v_proj.weight").size(), 64U * 32 * 4);
  EXPECT_EQ((*folder)->stored_bytes("model.layers.0.self_attn.q_proj.weight").size(), 64U * 64 * 4);
}

TEST(Checkpoint, AnyRowRangeEqualsTheWholeTensor) {
  const auto gguf = Checkpoint::open(kStories / "stories260K-f32.gguf");
  ASSERT_TRUE(gguf);
  const std::string name = "model.layers.1.self_attn.k_proj.weight";
  const std::vector<float> whole = read_all(**gguf, name);
  for (std::int64_t row = 0; row < 32; row += 3) {
    const std::int64_t rows = std::min<std::int64_t>(5, 32 - row);
    std::vector<float> part(static_cast<std::size_t>(rows * 64));
    (*gguf)->read_f32(name, row, rows, part);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + row * 64)) << row;
  }
}

TEST(Checkpoint, DigestIsStableAndTheSameForEveryThread) {
  const auto first = Checkpoint::open(kStories);
  const auto second = Checkpoint::open(kStories);
  const auto gguf = Checkpoint::open(kStories / "stories260K-f32.gguf");
  ASSERT_TRUE(first);
  ASSERT_TRUE(second);
  ASSERT_TRUE(gguf);
  std::vector<std::uint64_t> seen(4);
  {
    std::vector<std::jthread> threads;
    for (std::uint64_t& value : seen) {
      threads.emplace_back([&value, &first] { value = (*first)->weights_digest(); });
    }
  }
  for (const std::uint64_t value : seen) EXPECT_EQ(value, (*second)->weights_digest());
  EXPECT_NE(seen[0], (*gguf)->weights_digest());  // bytes as stored: the row order differs
}

}  // namespace
}  // namespace pd::model
