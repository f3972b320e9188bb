#include "worker/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/kernels/kernels.h"
#include "engine/weights.h"
#include "transfer/kv_range.h"
#include "transfer/send_buffer.h"

namespace pd::worker {
namespace {

constexpr Bytes kSendBufferMax{std::int64_t{256} << 20};
constexpr Bytes kKvPoolMax{std::int64_t{1} << 30};

std::string mib(Bytes bytes) {
  return fmt::format("{:.0f} MiB", static_cast<double>(bytes.value()) / (1 << 20));
}

}  // namespace

Bytes send_buffer_size(const protocol::KvLayout& layout, Tokens context_max,
                       const MemorySettings& settings) {
  if (settings.send_buffer.value() > 0) return settings.send_buffer;
  const Bytes each = transfer::range_bytes(layout, context_max) + transfer::kRangeAlignment;
  return std::min(each * settings.slots, std::max(kSendBufferMax, each));
}

Bytes kv_pool_size(const protocol::KvLayout& layout, Tokens context_max,
                   const MemorySettings& settings) {
  if (settings.kv_memory.value() > 0) return settings.kv_memory;
  const Bytes each = layout.range(context_max);
  return std::min(each * settings.batch, std::max(kKvPoolMax, each + each));
}

Result<MemoryPlan> MemoryPlan::make(const model::Model& model, const ModelOptions& options,
                                    const MemorySettings& settings) {
  const auto kernels = engine::select_kernels(options.kernels);
  if (!kernels) return std::unexpected(kernels.error());
  const engine::ComputeType compute = compute_type(options.dtype);
  const auto weights = engine::Weights::packed_size(*model.checkpoint, compute);
  if (!weights) return std::unexpected(weights.error());
  const auto context = served_context(model, options.context_max);
  if (!context) return std::unexpected(context.error());
  const auto type = engine::Weights::stored_type(*model.checkpoint, compute);
  const protocol::KvLayout layout =
      engine::kv_layout(model.config(), type, **kernels, options.block_tokens);
  const auto enough = [](std::string_view key, Bytes has, Bytes needs) -> Status {
    if (has >= needs) return {};
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: {} bytes are too little for a prompt of {} tokens; use at least "
                             "{}, or leave it out",
                             key, has.value(), kContextMin.value(), needs.value()));
  };
  const Bytes least_range = transfer::range_bytes(layout, kContextMin) + transfer::kRangeAlignment;
  if (Status ok = enough("[prefill] send_buffer", send_buffer_size(layout, *context, settings),
                         least_range);
      !ok)
    return std::unexpected(ok.error());
  if (Status ok = enough("[decode] kv_memory", kv_pool_size(layout, *context, settings),
                         layout.range(kContextMin));
      !ok)
    return std::unexpected(ok.error());
  return MemoryPlan{.weights = *weights,
                    .send_buffer = send_buffer_size(layout, *context, settings),
                    .prefix_cache = settings.prefix_cache,
                    .kv_pool = kv_pool_size(layout, *context, settings)};
}

Bytes MemoryPlan::total(int prefill, int decode, int both) const {
  return weights + (send_buffer + prefix_cache) * (prefill + both) + kv_pool * (decode + both);
}

std::string MemoryPlan::describe(int prefill, int decode, int both) const {
  return fmt::format(
      "weights {} once, [prefill] send_buffer {} and prefix_cache {} for each of {}, [decode] "
      "kv_memory {} for each of {}",
      mib(weights), mib(send_buffer), mib(prefix_cache), prefill + both, mib(kv_pool),
      decode + both);
}

}  // namespace pd::worker
