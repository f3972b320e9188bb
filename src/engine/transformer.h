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

class Transformer final : public ForwardPass {
 public:
  // All three outlive it. `rows_max`: most tokens of one forward(); scratch is sized for it.
  Transformer(const Weights& weights, const Kernels& kernels, ThreadPool& pool,
              std::int32_t rows_max);
  ~Transformer() override;

  // Sum of tokens <= rows_max. Segments have distinct KV rows to write. Result: one row of vocab
  // f32 per requested logits row, in order of segments; valid until the next call. Blocks the
  // caller.
  std::span<const float> forward(std::span<const Segment> segments) override;

  std::int32_t vocab() const override;
  std::int32_t rows_max() const override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pd::engine
