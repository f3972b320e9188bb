// The model's forward pass over a batch of segments: any mix of prompt chunks and single decode
// tokens. Batch-invariant: what a segment's rows become depends on that segment's own tokens and KV
// only, bit for bit: not on the other segments, not on where the prompt was cut, not on the number
// of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "base/units.h"
#include "engine/forward_pass.h"
#include "engine/kernels/kernels.h"
#include "engine/kv_view.h"
#include "engine/weights.h"

namespace pd::engine {

// How K and V of these weights are stored when these kernels compute them. Two sides may hand KV to
// each other only if this is equal.
protocol::KvLayout kv_layout(const model::ModelConfig& config, WeightType type,
                             const Kernels& kernels, std::uint16_t block_tokens);  // digest: 0
protocol::KvLayout kv_layout(const Weights& weights, const Kernels& kernels,
                             std::uint16_t block_tokens);

class Transformer final : public ForwardPass {
 public:
  // All three outlive it. `rows_max`: most tokens of one forward(); scratch is sized for it, except
  // for the logits, which grow to the most rows asked for.
  Transformer(const Weights& weights, const Kernels& kernels, ThreadPool& pool,
              std::int32_t rows_max);
  ~Transformer() override;

  // As ForwardPass. KV views may differ in layout kind (contiguous, paged) and dtype; all have the
  // model's layers, heads and head_dim.
  std::span<const float> forward(std::span<const Segment> segments) override;

  std::int32_t vocab() const override;
  std::int32_t rows_max() const override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pd::engine
