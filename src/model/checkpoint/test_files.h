// Makers of weight files for tests: right by default, every field open to be made wrong.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/checkpoint/weight_table.h"
#include "model/config.h"

namespace pd::model::test {

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

template <typename T>
std::string raw(T value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}

// A folder that disappears with this object.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "pdserve_test_XXXXXX").string();
    const char* made = ::mkdtemp(pattern.data());
    EXPECT_NE(made, nullptr);
    path_ = pattern;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string write(const std::string& name, std::string_view bytes) const {
    std::ofstream(path_ / name, std::ios::binary) << bytes;
    return (path_ / name).string();
  }

 private:
  std::filesystem::path path_;
};

// The header given and `data` behind it.
inline std::string safetensors(std::string_view header, std::string_view data) {
  return raw(std::uint64_t{header.size()}) + std::string(header) + std::string(data);
}

// A GGUF file field by field.
struct GgufFile {
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> dims;  // GGUF order: contiguous dimension first
    std::uint32_t type = 0;           // F32
    std::string data;
    std::optional<std::uint64_t> offset = {};  // default: after the one before, aligned
  };

  std::uint32_t magic = 0x46554747;
  std::uint32_t version = 3;
  std::optional<std::uint64_t> tensor_count = {};
  std::optional<std::uint64_t> value_count = {};
  std::vector<std::string> values;  // encoded key, type and value
  std::vector<Tensor> tensors;
  std::uint64_t alignment = 32;

  static std::string text(std::string_view value) {
    return raw(std::uint64_t{value.size()}) + std::string(value);
  }
  static std::string u32(std::string_view key, std::uint32_t value) {
    return text(key) + raw(std::uint32_t{4}) + raw(value);
  }
  static std::string f32(std::string_view key, float value) {
    return text(key) + raw(std::uint32_t{6}) + raw(value);
  }
  static std::string str(std::string_view key, std::string_view value) {
    return text(key) + raw(std::uint32_t{8}) + text(value);
  }

  // Replaces or adds the value of `key`, which `encoded` begins with.
  void set(std::string_view key, std::string encoded) {
    remove(key);
    values.push_back(std::move(encoded));
  }
  void remove(std::string_view key) {
    std::erase_if(values, [&](const std::string& value) { return value.starts_with(text(key)); });
  }
  Tensor& tensor(std::string_view name) {
    for (Tensor& t : tensors) {
      if (t.name == name) return t;
    }
    ADD_FAILURE() << "no tensor " << name;
    return tensors.front();
  }

  std::string head() const {
    std::string out = raw(magic) + raw(version) + raw(tensor_count.value_or(tensors.size())) +
                      raw(value_count.value_or(values.size()));
    for (const std::string& value : values) out += value;
    std::uint64_t next = 0;
    for (const Tensor& t : tensors) {
      out += text(t.name) + raw(static_cast<std::uint32_t>(t.dims.size()));
      for (const std::uint64_t dim : t.dims) out += raw(dim);
      out += raw(t.type) + raw(t.offset.value_or(next));
      next += (t.data.size() + alignment - 1) / alignment * alignment;
    }
    return out;
  }

  std::string bytes() const {
    std::string out = head();
    const auto pad = [&] { out.resize((out.size() + alignment - 1) / alignment * alignment); };
    pad();
    for (const Tensor& t : tensors) {
      out += t.data;
      pad();
    }
    return out;
  }
};

// Two layers, GQA, widths that are no powers of two; heads * head_dim != hidden.
inline ModelConfig tiny_config() {
  ModelConfig config;
  config.architecture = "llama";
  config.layers = 2;
  config.hidden = 12;
  config.intermediate = 20;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 6;
  config.vocab = 16;
  config.context_max = Tokens(64);
  return config;
}

// Distinct values for every element of every tensor.
inline std::string tiny_values(std::size_t tensor, std::int64_t count) {
  std::string out;
  for (std::int64_t i = 0; i < count; ++i) {
    out += raw(static_cast<float>(tensor) + static_cast<float>(i) / 1024);
  }
  return out;
}

inline std::int64_t count_of(const std::vector<std::int64_t>& shape) {
  std::int64_t out = 1;
  for (const std::int64_t dim : shape) out *= dim;
  return out;
}

// A complete model of `config`, F32.
inline GgufFile tiny_gguf(const ModelConfig& config) {
  GgufFile out;
  const std::string prefix = config.architecture + ".";
  const auto u32 = [&](std::string_view key, std::int64_t value) {
    out.values.push_back(
        GgufFile::u32(prefix + std::string(key), static_cast<std::uint32_t>(value)));
  };
  out.values.push_back(GgufFile::str("general.architecture", config.architecture));
  u32("block_count", config.layers);
  u32("embedding_length", config.hidden);
  u32("feed_forward_length", config.intermediate);
  u32("attention.head_count", config.heads);
  u32("attention.head_count_kv", config.kv_heads);
  u32("attention.key_length", config.head_dim);
  u32("attention.value_length", config.head_dim);
  u32("context_length", config.context_max.value());
  out.values.push_back(GgufFile::f32(prefix + "attention.layer_norm_rms_epsilon", config.norm_eps));
  out.values.push_back(
      GgufFile::f32(prefix + "rope.freq_base", static_cast<float>(config.rope_theta)));
  out.values.push_back(GgufFile::u32("tokenizer.ggml.bos_token_id", 1));
  out.values.push_back(GgufFile::u32("tokenizer.ggml.eos_token_id", 2));
  for (const WeightSpec& spec : weights_of(config)) {
    GgufFile::Tensor tensor;
    tensor.name = spec.gguf_name;
    tensor.dims.assign(spec.shape.rbegin(), spec.shape.rend());
    tensor.data = tiny_values(out.tensors.size(), count_of(spec.shape));
    out.tensors.push_back(std::move(tensor));
  }
  return out;
}

struct SafetensorsText {
  std::string header;
  std::string data;
  std::string bytes() const { return safetensors(header, data); }
};

// The tensors of `config` from index `first` on in steps of `step`: a shard. F32.
inline SafetensorsText tiny_safetensors(const ModelConfig& config, std::size_t first = 0,
                                        std::size_t step = 1) {
  nlohmann::json header = nlohmann::json::object();
  SafetensorsText out;
  const std::vector<WeightSpec> specs = weights_of(config);
  for (std::size_t i = first; i < specs.size(); i += step) {
    const std::size_t begin = out.data.size();
    out.data += tiny_values(i, count_of(specs[i].shape));
    header[specs[i].name] = {
        {"dtype", "F32"}, {"shape", specs[i].shape}, {"data_offsets", {begin, out.data.size()}}};
  }
  out.header = header.dump();
  return out;
}

// config.json of `config`; fields can be changed before dump().
inline nlohmann::json tiny_json(const ModelConfig& config) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_act", "silu"},
          {"num_hidden_layers", config.layers},
          {"hidden_size", config.hidden},
          {"intermediate_size", config.intermediate},
          {"num_attention_heads", config.heads},
          {"num_key_value_heads", config.kv_heads},
          {"head_dim", config.head_dim},
          {"vocab_size", config.vocab},
          {"max_position_embeddings", config.context_max.value()},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", config.rope_theta},
          {"bos_token_id", 1},
          {"eos_token_id", 2}};
}

}  // namespace pd::model::test
