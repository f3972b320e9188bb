// The tensors that a configuration needs, found in a file's directory under the names of its
// format, with shapes and types checked.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/checkpoint/gguf.h"
#include "model/checkpoint/safetensors_folder.h"
#include "model/config.h"
#include "model/tensor.h"

namespace pd::model {

struct WeightSpec {
  std::string name;       // Hugging Face's
  std::string gguf_name;  // what GGUF files call it
  std::vector<std::int64_t> shape;
  bool is_rotary = false;  // a matrix whose rows a GGUF file of architecture `llama` permutes
};

// Everything the forward pass reads, in the order of the layers. `config` within config_limits.h.
std::vector<WeightSpec> weights_of(const ModelConfig& config);

// A tensor as a file's directory describes it; already known to lie inside the file.
struct StoredTensor {
  std::string file;            // for messages
  std::optional<DType> dtype;  // nullopt: no weight type
  std::string type_name;       // for messages
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;
};

using TensorDirectory = std::map<std::string, StoredTensor, std::less<>>;  // by stored name
TensorDirectory directory_of(const Gguf& gguf);
TensorDirectory directory_of(const SafetensorsFolder& folder);

enum class WeightNames { kHuggingface, kGguf };

struct Weight {
  TensorInfo info;
  std::span<const std::byte> data;
  // 0: rows in Hugging Face order. Otherwise each group of that many rows (one head) is stored
  // with its two halves interleaved.
  std::int64_t interleaved = 0;
};

using WeightTable = std::map<std::string, Weight, std::less<>>;  // by Hugging Face name

// `source` begins messages about absent tensors. Errors: kCorrupt (absent, wrong shape),
// kUnsupported (unexpected, a type that is no weight type).
Result<WeightTable> bind_weights(const ModelConfig& config, WeightNames names,
                                 const TensorDirectory& directory, std::string_view source);

// The stored row that holds Hugging Face's `row`.
//   Within a head of d rows the file has 0, d/2, 1, d/2 + 1, ...: Hugging Face's row h of the first
//   half is stored at 2h, of the second half at 2(h - d/2) + 1.
constexpr std::int64_t stored_row(const Weight& weight, std::int64_t row) {
  if (weight.interleaved == 0) return row;
  const std::int64_t half = weight.interleaved / 2;
  const std::int64_t inside = row % weight.interleaved;
  const std::int64_t head_start = row - inside;
  return head_start + (inside < half ? 2 * inside : 2 * (inside - half) + 1);
}

}  // namespace pd::model
