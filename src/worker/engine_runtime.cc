#include "worker/engine_runtime.h"

#include <fmt/format.h>

#include <utility>

namespace pd::worker {

engine::ComputeType compute_type(std::string_view dtype) {
  if (dtype == "f32") return engine::ComputeType::kF32;
  if (dtype == "bf16") return engine::ComputeType::kBF16;
  return engine::ComputeType::kAuto;
}

Result<Tokens> served_context(const model::Model& model, Tokens configured) {
  const Tokens own = model.config().context_max;
  if (configured.value() == 0) return own;
  if (configured < kContextMin) {
    return error(
        ErrorCode::kInvalidArgument,
        fmt::format("[model] context_max: {} is too little to serve anything; use at least "
                    "{}, or leave it out",
                    configured.value(), kContextMin.value()));
  }
  if (configured <= own) return configured;
  return error(
      ErrorCode::kInvalidArgument,
      fmt::format("[model] context_max: {} is more than the model's {}; lower it, or leave "
                  "it out",
                  configured.value(), own.value()));
}

Result<std::unique_ptr<LoadedModel>> LoadedModel::load(const ModelOptions& options,
                                                       std::atomic<double>& fraction) {
  auto out = std::make_unique<LoadedModel>();
  auto kernels = engine::select_kernels(options.kernels);
  if (!kernels) return std::unexpected(kernels.error());
  out->kernels = *kernels;
  auto opened = model::Model::open(options.path);
  if (!opened) return std::unexpected(opened.error());
  out->model = std::make_unique<model::Model>(std::move(*opened));
  auto context = served_context(*out->model, options.context_max);
  if (!context) return std::unexpected(context.error());
  out->context_max = *context;
  auto weights = engine::Weights::open(
      *out->model->checkpoint, {compute_type(options.dtype), options.pack_directory},
      [&fraction](Bytes done, Bytes total) {
        fraction = static_cast<double>(done.value()) / static_cast<double>(total.value());
      });
  if (!weights) return std::unexpected(weights.error());
  out->weights = std::make_unique<engine::Weights>(std::move(*weights));
  out->layout = engine::kv_layout(*out->weights, *out->kernels, options.block_tokens);
  fraction = 1.0;
  return out;
}

}  // namespace pd::worker
