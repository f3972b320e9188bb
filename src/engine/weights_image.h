// What a packed image contains and where: a header page, then every tensor in a fixed order, each
// aligned to 64 bytes. Offsets follow from the configuration alone.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "engine/kernels/kernels.h"
#include "model/checkpoint/checkpoint.h"

namespace pd::engine {

// Raise it when the packing or the order of tensors changes.
inline constexpr std::uint32_t kPackVersion = 2;

// First bytes of an image, little-endian as the machine that maps it.
struct ImageHeader {
  static constexpr std::array<char, 8> kMagic = {'P', 'D', 'W', 'E', 'I', 'G', 'H', 'T'};
  static constexpr std::int64_t kBytes = 4096;  // tensors start at the next page
  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kPackVersion;
  std::uint32_t type = 0;
  std::uint64_t weights_digest = 0;
  std::uint64_t plan_digest = 0;
  std::int64_t image_bytes = 0;
  bool operator==(const ImageHeader&) const = default;
};

// One tensor of the image: the checkpoint's tensors `parts` under each other.
struct ImageTensor {
  std::vector<std::string> parts;
  std::vector<std::int64_t> part_rows;
  std::int64_t rows = 0;  // a vector: 1
  std::int64_t columns = 0;
  bool is_matrix = false;  // packed; vectors are plain f32
  std::int64_t offset = 0;
  std::int64_t bytes = 0;
};

struct ImagePlan {
  WeightType type = WeightType::kF32;
  // embedding, [head unless tied], final norm, then per layer in the order of LayerWeights, without
  // what the model does not have.
  std::vector<ImageTensor> tensors;
  std::int64_t bytes = 0;

  // Errors: kUnsupported: a size that the kernels or the KV layout cannot hold, named.
  static Result<ImagePlan> make(const model::ModelConfig& config, WeightType type);
  ImageHeader header(std::uint64_t weights_digest) const;
};

// Writes the image of `checkpoint` front to back. `sink` takes the pieces; its error ends the work.
using ImageSink = std::function<Status(std::span<const std::byte> piece)>;
Status write_image(const model::Checkpoint& checkpoint, const ImagePlan& plan,
                   const ImageSink& sink);

}  // namespace pd::engine
