#include "model/checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <mutex>

#include "base/check.h"
#include "base/digest.h"
#include "base/mapped_file.h"
#include "model/checkpoint/gguf.h"
#include "model/checkpoint/gguf_config.h"
#include "model/checkpoint/hf_config.h"
#include "model/checkpoint/safetensors_folder.h"
#include "model/checkpoint/weight_table.h"

namespace pd::model {
namespace {

constexpr std::size_t kConfigBytesMax = 4 << 20;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

struct MatrixSize {
  std::int64_t rows;
  std::int64_t columns;
};

// A vector is one row.
MatrixSize size_of(const TensorInfo& info) {
  return {info.shape.size() == 1 ? 1 : info.shape.front(), info.shape.back()};
}

// Reading and identity are the same for both formats once the tensors are bound.
class BoundCheckpoint : public Checkpoint {
 public:
  BoundCheckpoint(std::filesystem::path path, ModelConfig config, WeightTable weights)
      : path_(std::move(path)), config_(std::move(config)), weights_(std::move(weights)) {}

  const ModelConfig& config() const override { return config_; }
  const std::filesystem::path& path() const override { return path_; }

  std::optional<TensorInfo> tensor(std::string_view name) const override {
    const auto at = weights_.find(name);
    if (at == weights_.end()) return std::nullopt;
    return at->second.info;
  }

  std::span<const std::byte> stored_bytes(std::string_view name) const override {
    const auto at = weights_.find(name);
    if (at == weights_.end() || at->second.interleaved != 0) return {};
    return at->second.data;
  }

  void read_f32(std::string_view name, std::int64_t row, std::int64_t rows,
                std::span<float> out) const override {
    const auto at = weights_.find(name);
    CHECK(at != weights_.end());
    const Weight& weight = at->second;
    const auto [height, width] = size_of(weight.info);
    CHECK(row >= 0);
    CHECK(rows >= 0);
    CHECK(row <= height);
    CHECK(rows <= height - row);
    CHECK(static_cast<std::int64_t>(out.size()) == rows * width);
    const DTypeBlock block = block_of(weight.info.dtype);
    const auto row_bytes = static_cast<std::size_t>(width / block.values * block.bytes);
    const auto bytes = [&](std::int64_t first, std::int64_t count) {
      return weight.data.subspan(static_cast<std::size_t>(first) * row_bytes,
                                 static_cast<std::size_t>(count) * row_bytes);
    };
    if (weight.interleaved == 0) {
      widen(weight.info.dtype, bytes(row, rows), out);
      return;
    }
    for (std::int64_t i = 0; i < rows; ++i) {
      widen(weight.info.dtype, bytes(stored_row(weight, row + i), 1),
            out.subspan(static_cast<std::size_t>(i * width), static_cast<std::size_t>(width)));
    }
  }

  std::uint64_t weights_digest() const override {
    std::call_once(digest_once_, [this] { digest_ = compute_digest(); });
    return digest_;
  }

  Bytes stored_size() const override {
    Bytes out;
    for (const auto& [name, weight] : weights_) {
      out += Bytes(static_cast<std::int64_t>(weight.data.size()));
    }
    return out;
  }

  DType widest_dtype() const override {
    constexpr DType kWidestFirst[] = {DType::kF32,  DType::kF16,  DType::kBF16,
                                      DType::kQ8_0, DType::kQ4_1, DType::kQ4_0};
    for (const DType dtype : kWidestFirst) {
      const bool occurs = std::ranges::any_of(weights_, [dtype](const auto& entry) {
        return entry.second.info.shape.size() == 2 && entry.second.info.dtype == dtype;
      });
      if (occurs) return dtype;
    }
    return DType::kF32;  // no matrix: cannot be, the embedding is one
  }

 private:
  std::uint64_t compute_digest() const {
    Digest64 digest;
    const ModelConfig& c = config_;
    digest.update(bytes_of(fmt::format(
        "{} {} {} {} {} {} {} {:08x} {} {} {} {}\n", c.layers, c.hidden, c.intermediate, c.heads,
        c.kv_heads, c.head_dim, c.vocab, std::bit_cast<std::uint32_t>(c.norm_eps),
        c.sliding_window.value_or(Tokens(0)).value(), c.tied_embeddings, c.qkv_bias, c.qk_norm)));
    const std::vector<float> frequencies = rope_frequencies(c);
    digest.update(std::as_bytes(std::span(frequencies)));
    for (const auto& [name, weight] : weights_) {
      digest.update(bytes_of(fmt::format("{} {} {} {}\n", name, to_string(weight.info.dtype),
                                         to_string(weight.info.shape), weight.interleaved)));
      digest.update(weight.data);
    }
    return digest.value();
  }

  std::filesystem::path path_;
  ModelConfig config_;
  WeightTable weights_;
  mutable std::once_flag digest_once_;
  mutable std::uint64_t digest_ = 0;
};

class HuggingfaceCheckpoint final : public BoundCheckpoint {
 public:
  HuggingfaceCheckpoint(SafetensorsFolder files, std::filesystem::path path, ModelConfig config,
                        WeightTable weights)
      : BoundCheckpoint(std::move(path), std::move(config), std::move(weights)),
        files_(std::move(files)) {}
  const Gguf* gguf() const override { return nullptr; }

 private:
  SafetensorsFolder files_;  // owns the mapped bytes
};

class GgufCheckpoint final : public BoundCheckpoint {
 public:
  GgufCheckpoint(std::unique_ptr<Gguf> file, std::filesystem::path path, ModelConfig config,
                 WeightTable weights)
      : BoundCheckpoint(std::move(path), std::move(config), std::move(weights)),
        file_(std::move(file)) {}
  const Gguf* gguf() const override { return file_.get(); }

 private:
  std::unique_ptr<Gguf> file_;  // owns the mapped bytes
};

Result<ConfigText> read_text(const std::filesystem::path& path) {
  auto text = read_file(path, kConfigBytesMax);
  if (!text) return std::unexpected(text.error());
  return ConfigText{path.string(), std::move(*text)};
}

// A folder without config.json: says which file to pass instead where that can be seen.
Error no_config(const std::filesystem::path& folder) {
  std::string hint = "expected a Hugging Face folder or a .gguf file";
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failed)) {
    if (entry.path().extension() == ".gguf") {
      hint = fmt::format("pass the file itself: {}", entry.path().string());
    }
  }
  return {ErrorCode::kNotFound, fmt::format("{}: holds no config.json; {}", folder.string(), hint)};
}

Result<std::unique_ptr<Checkpoint>> open_huggingface(const std::filesystem::path& folder) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder / "config.json", ignored)) {
    return std::unexpected(no_config(folder));
  }
  const auto config_text = read_text(folder / "config.json");
  if (!config_text) return std::unexpected(config_text.error());
  std::optional<ConfigText> generation;
  if (std::filesystem::exists(folder / "generation_config.json", ignored)) {
    auto text = read_text(folder / "generation_config.json");
    if (!text) return std::unexpected(text.error());
    generation = std::move(*text);
  }
  auto config = config_from_huggingface(*config_text, generation);
  if (!config) return std::unexpected(config.error());
  auto files = SafetensorsFolder::open(folder);
  if (!files) return std::unexpected(files.error());

  auto weights =
      bind_weights(*config, WeightNames::kHuggingface, directory_of(*files), folder.string());
  if (!weights) return std::unexpected(weights.error());
  return std::make_unique<HuggingfaceCheckpoint>(std::move(*files), folder, std::move(*config),
                                                 std::move(*weights));
}

Result<std::unique_ptr<Checkpoint>> open_gguf(const std::filesystem::path& path) {
  auto file = Gguf::open(path);
  if (!file) return std::unexpected(file.error());
  auto config = config_from_gguf(**file);
  if (!config) return std::unexpected(config.error());
  auto weights = bind_weights(*config, WeightNames::kGguf, directory_of(**file), path.string());
  if (!weights) return std::unexpected(weights.error());
  return std::make_unique<GgufCheckpoint>(std::move(*file), path, std::move(*config),
                                          std::move(*weights));
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> Checkpoint::open(const std::filesystem::path& path) {
  std::error_code failed;
  const auto status = std::filesystem::status(path, failed);
  if (!std::filesystem::exists(status)) {
    return error(ErrorCode::kNotFound,
                 fmt::format("{}: no such file or folder; expected a Hugging Face folder or a "
                             ".gguf file",
                             path.string()));
  }
  return std::filesystem::is_directory(status) ? open_huggingface(path) : open_gguf(path);
}

}  // namespace pd::model
