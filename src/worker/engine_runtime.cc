#include "worker/engine_runtime.h"

#include <utility>

namespace pd::worker {
namespace {

engine::ComputeType compute_type(std::string_view dtype) {
  if (dtype == "f32") return engine::ComputeType::kF32;
  if (dtype == "bf16") return engine::ComputeType::kBF16;
  return engine::ComputeType::kAuto;
}

}  // namespace

Result<std::unique_ptr<LoadedModel>> LoadedModel::load(const ModelOptions& options,
                                                       std::atomic<double>& fraction) {
  auto out = std::make_unique<LoadedModel>();
  auto kernels = engine::select_kernels(options.kernels);
  if (!kernels) return std::unexpected(kernels.error());
  out->kernels = *kernels;
  auto opened = model::Model::open(options.path);
  if (!opened) return std::unexpected(opened.error());
  out->model = std::make_unique<model::Model>(std::move(*opened));
  auto weights = engine::Weights::open(
      *out->model->checkpoint, {compute_type(options.dtype), options.pack_directory},
      [&fraction](Bytes done, Bytes total) {
        fraction = static_cast<double>(done.value()) / static_cast<double>(total.value());
      });
  if (!weights) return std::unexpected(weights.error());
  out->weights = std::make_unique<engine::Weights>(std::move(*weights));
  const model::ModelConfig& config = out->model->config();
  out->layout.dtype = out->kernels->kv_dtype(out->weights->type());
  out->layout.layers = static_cast<std::uint16_t>(config.layers);
  out->layout.kv_heads = static_cast<std::uint16_t>(config.kv_heads);
  out->layout.head_dim = static_cast<std::uint16_t>(config.head_dim);
  out->layout.block_tokens = static_cast<std::uint16_t>(options.block_tokens);
  out->layout.weights_digest = out->weights->digest();
  fraction = 1.0;
  return out;
}

}  // namespace pd::worker
