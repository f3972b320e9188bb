// A model's weights, packed once for the kernels and shared by all processes of a machine.
//
// open() keeps the packed image in a file: the first process writes it, under a lock, into a
// temporary file that is flushed and renamed; the others wait for it; all map it read-only, so that
// four workers cost one copy of the page cache. The name carries the checkpoint's digest, the
// compute type and the version of the packing: another model or version is another file, and an old
// file is never wrong, only unused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"
#include "base/units.h"
#include "engine/kernels/kernels.h"
#include "model/checkpoint/checkpoint.h"
#include "model/config.h"

namespace pd::engine {

// What matrices are stored as. kAuto: f32 if any matrix of the checkpoint is f32, else bf16 (exact
// for BF16; F16 and the quantised types are rounded to nearest).
enum class ComputeType : std::uint8_t { kAuto, kF32, kBF16 };

// Pointers into the image. Vectors are f32 whatever the compute type.
struct LayerWeights {
  const float* attention_norm = nullptr;  // [hidden]
  Matrix qkv;                             // rows: all q heads, all k heads, all v heads
  const float* qkv_bias = nullptr;        // [qkv.rows] or nullptr
  const float* q_norm = nullptr;          // [head_dim] or nullptr
  const float* k_norm = nullptr;          // [head_dim] or nullptr
  Matrix output;                          // [hidden, heads * head_dim]
  const float* mlp_norm = nullptr;        // [hidden]
  Matrix gate_up;                         // rows: gate, then up
  Matrix down;                            // [hidden, intermediate]
};

struct PackOptions {
  ComputeType compute = ComputeType::kAuto;
  std::filesystem::path directory;  // for packed images; made if it does not exist
};

// Immutable, usable from several threads, movable (pointers stay valid).
class Weights {
 public:
  // Called while packing, on the calling thread, about every 16 MiB and at the end.
  using Progress = std::function<void(Bytes done, Bytes total)>;

  // Errors: kUnsupported (a configuration beyond the kernels, named), kTooLarge (memory or disk:
  // says how much is needed and available), kUnavailable (directory or file: the system's reason).
  static Result<Weights> open(const model::Checkpoint& checkpoint, const PackOptions& options,
                              const Progress& progress = {});
  // The same image in this process's own memory, no file.
  static Result<Weights> in_memory(const model::Checkpoint& checkpoint,
                                   ComputeType compute = ComputeType::kAuto,
                                   const Progress& progress = {});
  // Size of the image that open() would make: memory and disk needed.
  static Result<Bytes> packed_size(const model::Checkpoint& checkpoint, ComputeType compute);
  // What its matrices would be stored as.
  static WeightType stored_type(const model::Checkpoint& checkpoint, ComputeType compute);

  const model::ModelConfig& config() const { return config_; }
  WeightType type() const { return type_; }
  Bytes size() const { return Bytes(static_cast<std::int64_t>(image_.size())); }
  // Identity of configuration, weights and compute type.
  std::uint64_t digest() const { return digest_; }

  const Matrix& embedding() const { return embedding_; }  // [vocab, hidden]
  const Matrix& head() const { return head_; }            // embedding() itself when tied
  const float* final_norm() const { return final_norm_; }
  const LayerWeights& layer(int index) const { return layers_[static_cast<std::size_t>(index)]; }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  Weights() = default;
  void point_into_image();

  model::ModelConfig config_;
  WeightType type_ = WeightType::kF32;
  std::uint64_t digest_ = 0;
  MappedFile file_;
  std::unique_ptr<std::byte[], Free> memory_;
  std::span<const std::byte> image_;
  Matrix embedding_, head_;
  const float* final_norm_ = nullptr;
  std::vector<LayerWeights> layers_;
};

}  // namespace pd::engine
