#include "engine/weights.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/check.h"
#include "base/rng.h"
#include "engine/weights_file.h"
#include "engine/weights_image.h"

namespace pd::engine {
namespace {

constexpr std::int64_t kProgressStep = 16 << 20;

WeightType resolve(ComputeType compute, const model::Checkpoint& checkpoint) {
  if (compute == ComputeType::kF32) return WeightType::kF32;
  if (compute == ComputeType::kBF16) return WeightType::kBF16;
  return checkpoint.widest_dtype() == model::DType::kF32 ? WeightType::kF32 : WeightType::kBF16;
}

// Calls `progress` once per step and at the end.
class StepProgress {
 public:
  StepProgress(const Weights::Progress& progress, std::int64_t total)
      : progress_(progress), total_(total) {}
  void operator()(std::int64_t done) {
    if (!progress_ || (done < next_ && done != total_)) return;
    next_ = done + kProgressStep;
    progress_(Bytes(done), Bytes(total_));
  }

 private:
  const Weights::Progress& progress_;
  std::int64_t total_;
  std::int64_t next_ = 0;
};

// Hands out the plan's tensors in their order.
class ImageReader {
 public:
  ImageReader(const ImagePlan& plan, std::span<const std::byte> image)
      : plan_(plan), image_(image) {}

  Matrix matrix() {
    const ImageTensor& tensor = next();
    CHECK(tensor.is_matrix);
    return {image_.data() + tensor.offset, plan_.type, tensor.rows, tensor.columns};
  }
  const float* vector() {
    const ImageTensor& tensor = next();
    CHECK(!tensor.is_matrix);
    return reinterpret_cast<const float*>(image_.data() + tensor.offset);
  }
  bool at_end() const { return index_ == plan_.tensors.size(); }

 private:
  const ImageTensor& next() {
    CHECK(!at_end());
    return plan_.tensors[index_++];
  }
  const ImagePlan& plan_;
  std::span<const std::byte> image_;
  std::size_t index_ = 0;
};

}  // namespace

void Weights::Free::operator()(std::byte* memory) const { std::free(memory); }

Result<Bytes> Weights::packed_size(const model::Checkpoint& checkpoint, ComputeType compute) {
  Result<ImagePlan> plan = ImagePlan::make(checkpoint.config(), resolve(compute, checkpoint));
  if (!plan) return std::unexpected(plan.error());
  return Bytes(plan->bytes);
}

WeightType Weights::stored_type(const model::Checkpoint& checkpoint, ComputeType compute) {
  return resolve(compute, checkpoint);
}

Result<Weights> Weights::open(const model::Checkpoint& checkpoint, const PackOptions& options,
                              const Progress& progress) {
  Weights weights;
  weights.config_ = checkpoint.config();
  weights.type_ = resolve(options.compute, checkpoint);
  Result<ImagePlan> plan = ImagePlan::make(weights.config_, weights.type_);
  if (!plan) return std::unexpected(plan.error());
  StepProgress on_bytes(progress, plan->bytes);
  Result<MappedFile> file =
      open_packed_image(checkpoint, *plan, options.directory, std::ref(on_bytes));
  if (!file) return std::unexpected(file.error());
  weights.file_ = std::move(*file);
  weights.image_ = weights.file_.bytes().first(static_cast<std::size_t>(plan->bytes));
  weights.digest_ = mix64(checkpoint.weights_digest() + static_cast<std::uint64_t>(weights.type_));
  weights.point_into_image();
  return weights;
}

Result<Weights> Weights::in_memory(const model::Checkpoint& checkpoint, ComputeType compute,
                                   const Progress& progress) {
  Weights weights;
  weights.config_ = checkpoint.config();
  weights.type_ = resolve(compute, checkpoint);
  Result<ImagePlan> plan = ImagePlan::make(weights.config_, weights.type_);
  if (!plan) return std::unexpected(plan.error());
  if (Status enough = check_memory(plan->bytes); !enough) return std::unexpected(enough.error());
  const auto size = static_cast<std::size_t>(plan->bytes);
  weights.memory_.reset(static_cast<std::byte*>(std::aligned_alloc(64, size)));
  if (weights.memory_ == nullptr)
    return error(ErrorCode::kTooLarge, "cannot allocate memory for the weights");
  StepProgress on_bytes(progress, plan->bytes);
  std::size_t written = 0;
  Status done = write_image(checkpoint, *plan, [&](std::span<const std::byte> piece) -> Status {
    CHECK(piece.size() <= size - written);
    std::memcpy(weights.memory_.get() + written, piece.data(), piece.size());
    written += piece.size();
    on_bytes(static_cast<std::int64_t>(written));
    return {};
  });
  if (!done) return std::unexpected(done.error());
  weights.image_ = {weights.memory_.get(), size};
  weights.digest_ = mix64(checkpoint.weights_digest() + static_cast<std::uint64_t>(weights.type_));
  weights.point_into_image();
  return weights;
}

void Weights::point_into_image() {
  const Result<ImagePlan> plan = ImagePlan::make(config_, type_);
  CHECK(plan.has_value());
  ImageReader reader(*plan, image_);
  embedding_ = reader.matrix();
  head_ = config_.tied_embeddings ? embedding_ : reader.matrix();
  final_norm_ = reader.vector();
  layers_.resize(static_cast<std::size_t>(config_.layers));
  for (LayerWeights& layer : layers_) {
    layer.attention_norm = reader.vector();
    layer.qkv = reader.matrix();
    if (config_.qkv_bias) layer.qkv_bias = reader.vector();
    if (config_.qk_norm) {
      layer.q_norm = reader.vector();
      layer.k_norm = reader.vector();
    }
    layer.output = reader.matrix();
    layer.mlp_norm = reader.vector();
    layer.gate_up = reader.matrix();
    layer.down = reader.matrix();
  }
  CHECK(reader.at_end());
}

}  // namespace pd::engine
