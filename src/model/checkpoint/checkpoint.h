// A model's files opened: configuration and weights, from a Hugging Face folder (config.json and
// model.safetensors or model.safetensors.index.json with its shards) or from one GGUF file. Files
// are untrusted: every offset, shape and count is checked before use; an error names the file and
// the field.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/config.h"
#include "model/tensor.h"

namespace pd::model {

// Tensors go by their Hugging Face names whatever the file format ("model.embed_tokens.weight",
// "model.layers.3.self_attn.q_proj.weight", "lm_head.weight", ...), with rows in Hugging Face order
// (a GGUF of architecture `llama` stores rows of q and k permuted; this class undoes it).
// Immutable after open(), usable from several threads; the mapped files live as long as it does.
class Checkpoint {
 public:
  // Opens, parses and validates all tensors that the configuration needs: name, shape, type,
  // bounds.
  static Result<std::unique_ptr<Checkpoint>> open(const std::filesystem::path& path);
  virtual ~Checkpoint() = default;

  virtual const ModelConfig& config() const = 0;
  virtual std::optional<TensorInfo> tensor(std::string_view name) const = 0;

  // Rows [row, row + rows) of a matrix, or elements of a vector as one row, widened to f32 in `out`
  // (row-major, rows * columns values). A wrong name, row or size is a CHECK: ask tensor() first.
  virtual void read_f32(std::string_view name, std::int64_t row, std::int64_t rows,
                        std::span<float> out) const = 0;

  // Identity of configuration and weights: XXH3 over the tensor bytes in a fixed order. Reads every
  // byte on the first call (cached).
  virtual std::uint64_t weights_digest() const = 0;

  // Widest storage type among the matrices: kF32 only if a matrix is stored as f32.
  virtual DType widest_dtype() const = 0;

  // What the tokenizer and the chat template need from the same files.
  //   huggingface: the folder; gguf: nullptr/non-null accordingly.
  virtual const std::filesystem::path& path() const = 0;
  virtual const class Gguf* gguf() const = 0;  // nullptr for a Hugging Face folder
};

}  // namespace pd::model
