// A model's files opened: configuration and weights, from a Hugging Face folder (config.json and
// model.safetensors or model.safetensors.index.json with its shards) or from one GGUF file. Files
// are untrusted: every offset, shape and count is checked before use; an error names the file and
// the field in one line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/units.h"
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
  // bounds. Tensors that it does not need are an error too (except rotary tables and the lm_head of
  // tied embeddings), because they say that the model computes more than the configuration tells.
  // Errors: kNotFound, kUnavailable (files), kCorrupt, kTooLarge, kUnsupported (content).
  static Result<std::unique_ptr<Checkpoint>> open(const std::filesystem::path& path);
  virtual ~Checkpoint() = default;

  virtual const ModelConfig& config() const = 0;
  // Shape and stored type of a tensor that the configuration needs; nullopt for any other name.
  virtual std::optional<TensorInfo> tensor(std::string_view name) const = 0;

  // The tensor as stored (little-endian, any alignment), inside the mapped file that all processes
  // of a machine share. Empty when its rows are not in Hugging Face order or there is no such name.
  virtual std::span<const std::byte> stored_bytes(std::string_view name) const = 0;

  // Rows [row, row + rows) of a matrix, or elements of a vector as one row, widened to f32 in `out`
  // (row-major, rows * columns values). A wrong name, row or size is a CHECK: ask tensor() first.
  virtual void read_f32(std::string_view name, std::int64_t row, std::int64_t rows,
                        std::span<float> out) const = 0;

  // Identity of what the forward pass computes: XXH3 over the configuration's dimensions and RoPE
  // frequencies and over every needed tensor's name, type, shape and bytes as stored, by name.
  // Reads every byte on the first call; later calls and calls that run at the same time share the
  // result.
  virtual std::uint64_t weights_digest() const = 0;

  // Bytes of all needed tensors as stored: what a load reads.
  virtual Bytes stored_size() const = 0;

  // The storage type among the matrices that comes first in F32, F16, BF16, Q8_0, Q4_1, Q4_0.
  virtual DType widest_dtype() const = 0;

  // What the tokenizer and the chat template need from the same files.
  //   huggingface: the folder; gguf: nullptr/non-null accordingly.
  virtual const std::filesystem::path& path() const = 0;
  virtual const class Gguf* gguf() const = 0;  // nullptr for a Hugging Face folder
};

}  // namespace pd::model
