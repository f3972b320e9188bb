#include "model/checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <thread>

#include "base/rng.h"
#include "model/checkpoint/gguf.h"
#include "model/checkpoint/test_files.h"
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
  EXPECT_EQ((*model)->stored_size(), Bytes(260032 * 4));
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

struct Family {
  const char* folder;
  const char* architecture;
  DType stored;
  std::size_t tensors;
};

class CheckpointFamily : public testing::TestWithParam<Family> {};

// The random models that the numerical tests run; here: every family, type and sharding opens, and
// 16-bit weights are handed out as they lie in the file.
TEST_P(CheckpointFamily, Opens) {
  const auto path = std::filesystem::path(PD_SOURCE_DIR) / "tests/data/models" / GetParam().folder;
  const auto model = Checkpoint::open(path);
  ASSERT_TRUE(model) << model.error().message;
  const ModelConfig& config = (*model)->config();
  EXPECT_EQ(config.architecture, GetParam().architecture);
  EXPECT_EQ((*model)->widest_dtype(), GetParam().stored);
  const std::vector<WeightSpec> specs = weights_of(config);
  EXPECT_EQ(specs.size(), GetParam().tensors);
  for (const WeightSpec& spec : specs) {
    const std::vector<float> values = read_all(**model, spec.name);
    const std::span<const std::byte> stored = (*model)->stored_bytes(spec.name);
    std::vector<float> widened(values.size());
    widen(GetParam().stored, stored, widened);
    EXPECT_EQ(values, widened) << spec.name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Tiny, CheckpointFamily,
    testing::Values(Family{"tiny-llama3.1", "llama", DType::kBF16, 3 * 9 + 3},
                    Family{"tiny-llama-linear", "llama", DType::kF32, 2 * 9 + 2},
                    Family{"tiny-mistral", "mistral", DType::kBF16, 3 * 9 + 3},
                    Family{"tiny-mistral-window", "mistral", DType::kF16, 3 * 9 + 3},
                    Family{"tiny-qwen2.5", "qwen2", DType::kBF16, 2 * 12 + 2},
                    Family{"tiny-qwen3", "qwen3", DType::kBF16, 3 * 11 + 2}));

// A complete folder of the tiny model; every file can be replaced.
class TinyFolder {
 public:
  TinyFolder() : config_(test::tiny_config()), weights_(test::tiny_safetensors(config_)) {
    folder_.write("config.json", test::tiny_json(config_).dump());
    folder_.write("model.safetensors", weights_.bytes());
  }
  const test::TempFolder& files() const { return folder_; }
  std::filesystem::path path() const { return folder_.path(); }
  const ModelConfig& config() const { return config_; }
  const test::SafetensorsText& weights() const { return weights_; }

  // Two shards and an index; `edit` changes the index before it is written.
  void shard(const std::function<void(nlohmann::json&)>& edit = {}) {
    std::filesystem::remove(path() / "model.safetensors");
    nlohmann::json index = {{"metadata", {{"total_size", 1}}}};
    for (std::size_t part = 0; part < 2; ++part) {
      const std::string name = part == 0 ? "one.safetensors" : "two.safetensors";
      const test::SafetensorsText text = test::tiny_safetensors(config_, part, 2);
      folder_.write(name, text.bytes());
      const nlohmann::json header = nlohmann::json::parse(text.header);
      for (const auto& [tensor, entry] : header.items()) {
        index["weight_map"][tensor] = name;
      }
    }
    if (edit) edit(index);
    folder_.write("model.safetensors.index.json", index.dump());
  }

  // The message of open(), with the folder's own name shortened to FOLDER.
  std::string problem() const {
    const auto model = Checkpoint::open(path());
    if (model) return "opened";
    std::string message = model.error().message;
    for (std::size_t at = 0; (at = message.find(path().string())) != message.npos;) {
      message.replace(at, path().string().size(), "FOLDER");
    }
    return message;
  }

 private:
  test::TempFolder folder_;
  ModelConfig config_;
  test::SafetensorsText weights_;
};

TEST(CheckpointFolder, ShardsEqualTheSingleFile) {
  const TinyFolder single;
  TinyFolder sharded;
  sharded.shard();
  const auto a = Checkpoint::open(single.path());
  const auto b = Checkpoint::open(sharded.path());
  ASSERT_TRUE(a) << a.error().message;
  ASSERT_TRUE(b) << b.error().message;
  for (const WeightSpec& spec : weights_of(single.config())) {
    EXPECT_EQ(read_all(**a, spec.name), read_all(**b, spec.name)) << spec.name;
  }
  EXPECT_EQ((*a)->weights_digest(), (*b)->weights_digest());
}

TEST(CheckpointFolder, DigestSeesEveryByteAndEveryDimension) {
  const TinyFolder plain;
  const std::uint64_t digest = (*Checkpoint::open(plain.path()))->weights_digest();
  Rng rng(31);
  for (int i = 0; i < 20; ++i) {
    const TinyFolder changed;
    test::SafetensorsText weights = changed.weights();
    char& c = weights.data[rng.below(weights.data.size())];
    c = static_cast<char>(c ^ 1);
    changed.files().write("model.safetensors", weights.bytes());
    EXPECT_NE((*Checkpoint::open(changed.path()))->weights_digest(), digest);
  }
  const TinyFolder other_rope;
  nlohmann::json config = test::tiny_json(other_rope.config());
  config["rope_theta"] = 20000.0;
  other_rope.files().write("config.json", config.dump());
  EXPECT_NE((*Checkpoint::open(other_rope.path()))->weights_digest(), digest);
}

TEST(CheckpointFolder, SymbolicLinksAreFollowed) {  // as in Hugging Face's cache
  const TinyFolder folder;
  std::filesystem::create_directory(folder.path() / "blobs");
  std::filesystem::rename(folder.path() / "model.safetensors", folder.path() / "blobs/x");
  std::filesystem::create_symlink("blobs/x", folder.path() / "model.safetensors");
  EXPECT_EQ(folder.problem(), "opened");
}

TEST(CheckpointFolder, MissingFilesAreNamed) {
  EXPECT_EQ(Checkpoint::open("/no/such/model").error().message,
            "/no/such/model: no such file or folder; expected a Hugging Face folder or a .gguf "
            "file");
  const TinyFolder no_weights;
  std::filesystem::remove(no_weights.path() / "model.safetensors");
  EXPECT_EQ(no_weights.problem(),
            "FOLDER: holds neither model.safetensors nor model.safetensors.index.json; only "
            "safetensors weights are read, so convert others (pytorch_model.bin) first");
  const TinyFolder no_config;
  std::filesystem::remove(no_config.path() / "config.json");
  EXPECT_EQ(no_config.problem(),
            "FOLDER: holds no config.json; expected a Hugging Face folder or a .gguf file");
  no_config.files().write("x.gguf", "");
  EXPECT_EQ(no_config.problem(),
            "FOLDER: holds no config.json; pass the file itself: FOLDER/x.gguf");
}

TEST(CheckpointFolder, TensorsMustMatchTheConfiguration) {
  const auto with = [](const char* patch) {
    const TinyFolder folder;
    nlohmann::json config = test::tiny_json(folder.config());
    config.merge_patch(nlohmann::json::parse(patch));
    folder.files().write("config.json", config.dump());
    return folder.problem();
  };
  EXPECT_EQ(with(R"({"num_hidden_layers": 3})"),
            "FOLDER: tensor 'model.layers.2.input_layernorm.weight': is missing, expected with "
            "shape [12]");
  EXPECT_EQ(with(R"({"num_hidden_layers": 1})"),
            "FOLDER/model.safetensors: tensor 'model.layers.1.input_layernorm.weight': is not part "
            "of a llama model of 1 layers as configured; the answers would be wrong without it");
  EXPECT_EQ(with(R"({"vocab_size": 17})"),
            "FOLDER/model.safetensors: tensor 'model.embed_tokens.weight': shape: [16, 12], the "
            "configuration needs [17, 12]");
  EXPECT_EQ(
      with(R"({"num_key_value_heads": 4})"),
      "FOLDER/model.safetensors: tensor 'model.layers.0.self_attn.k_proj.weight': shape: [12, "
      "12], the configuration needs [24, 12]");
  EXPECT_EQ(with(R"({"architectures": ["Qwen2ForCausalLM"]})"),
            "FOLDER: tensor 'model.layers.0.self_attn.q_proj.bias': is missing, expected with "
            "shape [24]");
  EXPECT_EQ(with(R"({"tie_word_embeddings": true})"), "opened");  // the second copy is ignored
}

TEST(CheckpointFolder, WeightsOfOtherTypesAreRefused) {
  const TinyFolder folder;
  test::SafetensorsText weights = folder.weights();
  nlohmann::json header = nlohmann::json::parse(weights.header);
  header["model.norm.weight"]["dtype"] = "I32";
  weights.header = header.dump();
  folder.files().write("model.safetensors", weights.bytes());
  EXPECT_EQ(folder.problem(),
            "FOLDER/model.safetensors: tensor 'model.norm.weight': dtype: I32 is not supported "
            "(F32, F16 and BF16 are)");
}

TEST(CheckpointFolder, RotaryTablesAreIgnored) {
  const TinyFolder folder;
  test::SafetensorsText weights = folder.weights();
  nlohmann::json header = nlohmann::json::parse(weights.header);
  const std::size_t begin = weights.data.size();
  header["model.layers.0.self_attn.rotary_emb.inv_freq"] = {
      {"dtype", "F64"}, {"shape", {3}}, {"data_offsets", {begin, begin + 24}}};
  weights.header = header.dump();
  weights.data += std::string(24, '\0');
  folder.files().write("model.safetensors", weights.bytes());
  EXPECT_EQ(folder.problem(), "opened");
}

struct IndexMutation {
  const char* name;
  void (*edit)(nlohmann::json&);
  const char* problem;  // after "FOLDER/model.safetensors.index.json: "
};

class IndexMutationTest : public testing::TestWithParam<IndexMutation> {};

TEST_P(IndexMutationTest, IsRefusedWithFileAndField) {
  TinyFolder folder;
  folder.shard(GetParam().edit);
  EXPECT_EQ(folder.problem(),
            std::string("FOLDER/model.safetensors.index.json: ") + GetParam().problem);
}

void map_norm_to(nlohmann::json& index, const nlohmann::json& shard) {
  index["weight_map"]["model.norm.weight"] = shard;
}

const IndexMutation kIndexMutations[] = {
    {"NoObject", [](nlohmann::json& j) { j = 5; },
     "weight_map: expected an object that maps tensors to files"},
    {"NoMap", [](nlohmann::json& j) { j.erase("weight_map"); },
     "weight_map: expected an object that maps tensors to files"},
    {"EmptyMap", [](nlohmann::json& j) { j["weight_map"] = nlohmann::json::object(); },
     "weight_map: expected an object that maps tensors to files"},
    {"Number", [](nlohmann::json& j) { map_norm_to(j, 1); },
     "weight_map: 'model.norm.weight': the value is not the plain name of a .safetensors file of "
     "this folder"},
    {"Parent", [](nlohmann::json& j) { map_norm_to(j, "../one.safetensors"); },
     "weight_map: 'model.norm.weight': '../one.safetensors' is not the plain name of a "
     ".safetensors "
     "file of this folder"},
    {"Absolute", [](nlohmann::json& j) { map_norm_to(j, "/etc/x.safetensors"); },
     "weight_map: 'model.norm.weight': '/etc/x.safetensors' is not the plain name of a "
     ".safetensors "
     "file of this folder"},
    {"Device", [](nlohmann::json& j) { map_norm_to(j, "/dev/zero"); },
     "weight_map: 'model.norm.weight': '/dev/zero' is not the plain name of a .safetensors file of "
     "this folder"},
    {"Nul", [](nlohmann::json& j) { map_norm_to(j, std::string("a\0.safetensors", 14)); },
     "weight_map: 'model.norm.weight': 'a\\u0000.safetensors' is not the plain name of a "
     ".safetensors file of this folder"},
    {"Hidden", [](nlohmann::json& j) { map_norm_to(j, ".safetensors"); },
     "weight_map: 'model.norm.weight': '.safetensors' is not the plain name of a .safetensors file "
     "of this folder"},
    {"WrongShard", [](nlohmann::json& j) { map_norm_to(j, "one.safetensors"); },
     "weight_map: 'model.norm.weight' is not in 'one.safetensors'"},
    {"NotInAnyShard", [](nlohmann::json& j) { j["weight_map"]["more"] = "one.safetensors"; },
     "weight_map: 'more' is not in 'one.safetensors'"},
};

INSTANTIATE_TEST_SUITE_P(Table, IndexMutationTest, testing::ValuesIn(kIndexMutations),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(CheckpointShards, AbsentCyclicAndDuplicateShardsAreErrors) {
  TinyFolder absent;
  absent.shard([](nlohmann::json& j) { map_norm_to(j, "three.safetensors"); });
  EXPECT_EQ(absent.problem(), "FOLDER/three.safetensors: cannot open: No such file or directory");

  TinyFolder cyclic;
  cyclic.shard();
  std::filesystem::remove(cyclic.path() / "one.safetensors");
  std::filesystem::create_symlink("one.safetensors", cyclic.path() / "one.safetensors");
  EXPECT_EQ(cyclic.problem(),
            "FOLDER/one.safetensors: cannot open: Too many levels of symbolic links");

  TinyFolder twice;
  twice.shard();
  std::filesystem::copy_file(twice.path() / "one.safetensors", twice.path() / "two.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_EQ(twice.problem(),
            "FOLDER/two.safetensors: tensor 'lm_head.weight': is also in FOLDER/one.safetensors");

  TinyFolder folder_as_shard;
  folder_as_shard.shard();
  std::filesystem::remove(folder_as_shard.path() / "one.safetensors");
  std::filesystem::create_directory(folder_as_shard.path() / "one.safetensors");
  EXPECT_EQ(folder_as_shard.problem(), "FOLDER/one.safetensors: not a regular file");
}

TEST(CheckpointGguf, LlamaRowsComeInHuggingfaceOrder) {
  const test::TempFolder folder;
  const auto file = test::tiny_gguf(test::tiny_config());
  const auto model = Checkpoint::open(folder.write("m.gguf", file.bytes()));
  ASSERT_TRUE(model) << model.error().message;
  const auto column = [&](const char* name, std::int64_t rows) {
    std::vector<float> values(static_cast<std::size_t>(rows * 12));
    (*model)->read_f32(name, 0, rows, values);
    std::vector<int> first;  // the stored row, recovered from its first value
    for (std::int64_t i = 0; i < rows; ++i) {
      const float value = values[static_cast<std::size_t>(i * 12)];
      first.push_back(static_cast<int>((value - std::floor(value)) * 1024 / 12));
    }
    return first;
  };
  EXPECT_EQ(column("model.layers.0.self_attn.k_proj.weight", 12),
            (std::vector<int>{0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11}));
  EXPECT_EQ(column("model.layers.0.self_attn.v_proj.weight", 4), (std::vector<int>{0, 1, 2, 3}));
}

TEST(CheckpointGguf, UnexpectedTensorsAreRefused) {
  const test::TempFolder folder;
  auto file = test::tiny_gguf(test::tiny_config());
  file.tensors.push_back({"blk.0.attn_q.bias", {24}, 0, std::string(96, '\0')});
  const std::string path = folder.write("m.gguf", file.bytes());
  EXPECT_EQ(Checkpoint::open(path).error().message,
            path +
                ": tensor 'blk.0.attn_q.bias': is not part of a llama model of 2 layers as "
                "configured; the answers would be wrong without it");
}

TEST(CheckpointGguf, WrongReadsAreCaught) {
  const auto model = Checkpoint::open(kStories);
  ASSERT_TRUE(model);
  std::vector<float> row(64);
  EXPECT_DEATH((*model)->read_f32("no.such", 0, 1, row), "weights_.end");
  EXPECT_DEATH((*model)->read_f32("model.embed_tokens.weight", 512, 1, row), "rows <= height");
  EXPECT_DEATH((*model)->read_f32("model.embed_tokens.weight", -1, 1, row), "row >= 0");
  EXPECT_DEATH((*model)->read_f32("model.embed_tokens.weight", 0, 2, row), "out.size");
}

std::uint32_t crc32(std::span<const float> values) {
  std::uint32_t crc = 0xFFFFFFFF;
  for (const std::byte b : std::as_bytes(values)) {
    crc ^= std::to_integer<std::uint32_t>(b);
    for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320U : 0U);
  }
  return ~crc;
}

// Expected values: gguf 0.19 (Python), dequantize() and the converter's permutation undone,
// zlib.crc32 of the f32 bytes.
TEST(CheckpointGguf, SmolLm2EqualsTheReferenceDequantisation) {
  const auto path = std::filesystem::path(PD_SOURCE_DIR) / "models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path)) {
    GTEST_SKIP() << "the default model is not here; tools/fetch_default_model.sh fetches it";
  }
  const auto model = Checkpoint::open(path);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ((*model)->widest_dtype(), DType::kQ8_0);
  EXPECT_EQ((*model)->config().vocab, 49152);
  EXPECT_EQ(crc32(read_all(**model, "model.layers.7.self_attn.q_proj.weight")), 3456467626U);
  EXPECT_EQ(crc32(read_all(**model, "model.layers.29.self_attn.k_proj.weight")), 554089509U);
  EXPECT_EQ(crc32(read_all(**model, "model.layers.3.mlp.down_proj.weight")), 1922726558U);
  EXPECT_EQ(crc32(read_all(**model, "model.embed_tokens.weight")), 964192520U);
}

}  // namespace
}  // namespace pd::model
