#include "engine/weights.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <thread>

#include "engine/kernels/kernels.h"
#include "engine/weights_file.h"
#include "engine/weights_image.h"

namespace pd::engine {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::unique_ptr<model::Checkpoint> open_model(const std::string& name) {
  auto checkpoint = model::Checkpoint::open(PD_SOURCE_DIR "/tests/data/models/" + name);
  EXPECT_TRUE(checkpoint.has_value());
  return std::move(*checkpoint);
}

class WeightsFile : public testing::Test {
 protected:
  WeightsFile() {
    std::string pattern = (fs::temp_directory_path() / "pdserve_weights_XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  ~WeightsFile() override {
    std::error_code ignored;
    fs::remove_all(directory_, ignored);
  }
  // The only finished image.
  fs::path image() const {
    for (const auto& entry : fs::directory_iterator(directory_ / "packed")) {
      if (entry.path().extension() == ".weights") return entry.path();
    }
    ADD_FAILURE() << "no image in " << directory_;
    return {};
  }
  Result<Weights> open(int* packed = nullptr) const {
    return Weights::open(*checkpoint_, {.directory = directory_ / "packed"}, [=](Bytes, Bytes) {
      if (packed != nullptr) ++*packed;
    });
  }

  fs::path directory_;
  std::unique_ptr<model::Checkpoint> checkpoint_ = open_model("tiny-qwen3");
};

std::vector<float> row_of(const Matrix& matrix, std::int64_t row) {
  std::vector<float> out(static_cast<std::size_t>(matrix.columns));
  (*select_kernels("reference"))->embed(matrix, row, out.data());
  return out;
}

std::vector<float> stored_row(const model::Checkpoint& checkpoint, const std::string& name,
                              std::int64_t row, std::int64_t columns) {
  std::vector<float> out(static_cast<std::size_t>(columns));
  checkpoint.read_f32(name, row, 1, out);
  return out;
}

TEST(Weights, PacksEveryRowWhereThePlanSaysIt) {
  for (const char* name : {"tiny-qwen3", "tiny-qwen2.5", "tiny-llama-linear"}) {
    const auto checkpoint = open_model(name);
    const auto weights = Weights::in_memory(*checkpoint);
    ASSERT_TRUE(weights.has_value());
    const model::ModelConfig& config = weights->config();
    const std::string layer = "model.layers.1.";
    const LayerWeights& w = weights->layer(1);
    const std::int64_t q_rows = std::int64_t{config.heads} * config.head_dim;
    const std::int64_t kv_rows = std::int64_t{config.kv_heads} * config.head_dim;
    const auto expect_rows = [&](const Matrix& matrix, std::int64_t first, const std::string& part,
                                 std::int64_t rows) {
      for (std::int64_t r = 0; r < rows; ++r) {
        ASSERT_EQ(row_of(matrix, first + r), stored_row(*checkpoint, part, r, matrix.columns))
            << name << ' ' << part << ' ' << r;
      }
    };
    expect_rows(weights->embedding(), 0, "model.embed_tokens.weight", config.vocab);
    expect_rows(w.qkv, 0, layer + "self_attn.q_proj.weight", q_rows);
    expect_rows(w.qkv, q_rows, layer + "self_attn.k_proj.weight", kv_rows);
    expect_rows(w.qkv, q_rows + kv_rows, layer + "self_attn.v_proj.weight", kv_rows);
    expect_rows(w.output, 0, layer + "self_attn.o_proj.weight", config.hidden);
    expect_rows(w.gate_up, 0, layer + "mlp.gate_proj.weight", config.intermediate);
    expect_rows(w.gate_up, config.intermediate, layer + "mlp.up_proj.weight", config.intermediate);
    expect_rows(w.down, 0, layer + "mlp.down_proj.weight", config.hidden);
    EXPECT_EQ(w.qkv_bias != nullptr, config.qkv_bias);
    EXPECT_EQ(w.q_norm != nullptr, config.qk_norm);
    EXPECT_EQ(weights->head().data == weights->embedding().data, config.tied_embeddings);
    EXPECT_EQ(weights->size(), *Weights::packed_size(*checkpoint, ComputeType::kAuto));
  }
}

TEST(Weights, AutoKeepsF32AndTakesBf16ForTheRest) {
  EXPECT_EQ(Weights::in_memory(*open_model("tiny-llama-linear"))->type(), WeightType::kF32);
  EXPECT_EQ(Weights::in_memory(*open_model("tiny-qwen3"))->type(), WeightType::kBF16);  // BF16
  EXPECT_EQ(Weights::in_memory(*open_model("tiny-mistral-window"))->type(),
            WeightType::kBF16);  // F16
  EXPECT_EQ(Weights::in_memory(*open_model("tiny-qwen3"), ComputeType::kF32)->type(),
            WeightType::kF32);
}

TEST(Weights, DigestTellsComputeTypesApart) {
  const auto checkpoint = open_model("tiny-qwen3");
  const std::uint64_t bf16 = Weights::in_memory(*checkpoint, ComputeType::kBF16)->digest();
  EXPECT_EQ(bf16, Weights::in_memory(*checkpoint, ComputeType::kBF16)->digest());
  EXPECT_NE(bf16, Weights::in_memory(*checkpoint, ComputeType::kF32)->digest());
}

TEST_F(WeightsFile, IsPackedOnceAndThenMapped) {
  int packed = 0;
  const auto first = open(&packed);
  ASSERT_TRUE(first.has_value()) << first.error().message;
  EXPECT_GT(packed, 0);
  packed = 0;
  const auto second = open(&packed);
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(packed, 0);
  EXPECT_EQ(first->digest(), second->digest());
  EXPECT_EQ(first->digest(), Weights::in_memory(*checkpoint_)->digest());
  EXPECT_EQ(row_of(second->head(), 5), row_of(Weights::in_memory(*checkpoint_)->head(), 5));
}

TEST_F(WeightsFile, ThatIsCutOrOfAnotherVersionIsPackedAgain) {
  ASSERT_TRUE(open().has_value());
  fs::resize_file(image(), fs::file_size(image()) - 64);
  int packed = 0;
  ASSERT_TRUE(open(&packed).has_value());
  EXPECT_GT(packed, 0);
  {
    std::fstream file(image(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(offsetof(ImageHeader, version));
    file.put('\x7F');
  }
  packed = 0;
  ASSERT_TRUE(open(&packed).has_value());
  EXPECT_GT(packed, 0);
}

TEST_F(WeightsFile, ThatNobodyUsedForLongGoesWhenAnotherIsMade) {
  ASSERT_TRUE(open().has_value());
  const fs::path now = image();
  const fs::path used = now.parent_path() / fmt::format("used-bf16-v{}.weights", kPackVersion);
  const fs::path unused = now.parent_path() / fmt::format("unused-bf16-v{}.weights", kPackVersion);
  const fs::path old_format = now.parent_path() / "other-bf16-v1.weights";
  const fs::path foreign = now.parent_path() / "notes.txt";
  for (const fs::path& path : {used, unused, old_format, foreign}) std::ofstream(path).put('x');
  const auto ago = [](int days) {
    return fs::file_time_type::clock::now() - std::chrono::days(days);
  };
  for (const fs::path& path : {unused, foreign, now}) fs::last_write_time(path, ago(31));
  fs::last_write_time(used, ago(29));
  ASSERT_TRUE(open().has_value());  // it is there: nothing is made, nothing goes
  EXPECT_TRUE(fs::exists(unused));
  EXPECT_GT(fs::last_write_time(now), ago(1)) << "a use is not noted";
  fs::resize_file(now, 64);
  ASSERT_TRUE(open().has_value());
  EXPECT_FALSE(fs::exists(unused));
  EXPECT_FALSE(fs::exists(old_format));
  for (const fs::path& path : {now, used, foreign}) EXPECT_TRUE(fs::exists(path)) << path;
}

TEST_F(WeightsFile, ThatHasChangedIsPackedAgain) {
  ASSERT_TRUE(open().has_value());
  const auto size = static_cast<std::streamoff>(fs::file_size(image()));
  for (const std::streamoff at : {std::streamoff{5000}, size / 2, size - 1}) {
    {
      std::fstream file(image(), std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(at);
      const auto byte = static_cast<char>(file.get());
      file.seekp(at);
      file.put(static_cast<char>(byte ^ 0x10));
    }
    int packed = 0;
    const auto again = open(&packed);
    ASSERT_TRUE(again.has_value());
    EXPECT_GT(packed, 0) << at;
    EXPECT_EQ(row_of(again->head(), 5), row_of(Weights::in_memory(*checkpoint_)->head(), 5));
  }
}

TEST_F(WeightsFile, IsNotTakenFromAFolderThatEverybodyWritesTo) {
  ASSERT_TRUE(open().has_value());
  fs::permissions(directory_ / "packed", fs::perms::all);
  const auto weights = open();
  ASSERT_FALSE(weights.has_value());
  EXPECT_NE(weights.error().message.find("everybody may write"), std::string::npos);
}

TEST_F(WeightsFile, IsPackedByOneOfManyThatComeAtOnce) {
  std::atomic<int> packers = 0;
  std::atomic<int> opened = 0;
  {
    std::vector<std::jthread> workers;
    for (int i = 0; i < 4; ++i) {
      workers.emplace_back([&] {
        int packed = 0;
        if (open(&packed)) ++opened;
        if (packed > 0) ++packers;
      });
    }
  }
  EXPECT_EQ(opened, 4);
  EXPECT_EQ(packers, 1);
}

TEST_F(WeightsFile, LeavesNothingHalfWritten) {
  ASSERT_TRUE(open().has_value());
  for (const auto& entry : fs::directory_iterator(directory_ / "packed"))
    EXPECT_NE(entry.path().extension(), ".tmp");
}

TEST_F(WeightsFile, SaysWhereItCannotBeWritten) {
  std::ofstream(directory_ / "file").put('x');
  const auto weights = Weights::open(*checkpoint_, {.directory = directory_ / "file" / "packed"});
  ASSERT_FALSE(weights.has_value());
  EXPECT_EQ(weights.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(weights.error().message, HasSubstr((directory_ / "file" / "packed").string()));
}

// A limit on file sizes stands for a full disk: the same call fails at the same place.
TEST_F(WeightsFile, SaysHowMuchDiskItNeeds) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 10'000, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto weights = open();
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  ASSERT_FALSE(weights.has_value());
  EXPECT_EQ(weights.error().code, ErrorCode::kTooLarge);
  const Bytes needed = *Weights::packed_size(*checkpoint_, ComputeType::kAuto);
  EXPECT_THAT(weights.error().message, HasSubstr(std::to_string(needed.value()) + " bytes"));
  EXPECT_THAT(weights.error().message, HasSubstr((directory_ / "packed").string()));
  EXPECT_TRUE(open().has_value());
}

TEST(CheckMemory, SaysWhatIsNeededAndAvailable) {
  EXPECT_TRUE(check_memory(1).has_value());
  const Status status = check_memory(std::int64_t{1} << 60);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kTooLarge);
  EXPECT_THAT(status.error().message, HasSubstr("1099511627776 MiB"));
  EXPECT_THAT(status.error().message, HasSubstr("are available"));
}

TEST(ImagePlan, NamesWhatKernelsCannotServe) {
  const model::ModelConfig good = open_model("tiny-qwen3")->config();
  const auto refused = [&](auto change) {
    model::ModelConfig config = good;
    change(config);
    const auto plan = ImagePlan::make(config, WeightType::kBF16);
    return plan ? std::string("not refused") : plan.error().message;
  };
  EXPECT_THAT(refused([](auto& c) { c.head_dim = kHeadDimMax + 2; }), HasSubstr("head_dim is 258"));
  EXPECT_THAT(refused([](auto& c) { c.head_dim = 31; }), HasSubstr("even"));
  EXPECT_THAT(refused([](auto& c) { c.heads = 5; }), HasSubstr("num_attention_heads is 5"));
  EXPECT_THAT(refused([](auto& c) { c.layers = 70'000; }), HasSubstr("65535"));
  EXPECT_TRUE(ImagePlan::make(good, WeightType::kBF16).has_value());
}

}  // namespace
}  // namespace pd::engine
