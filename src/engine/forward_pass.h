// What the engines ask of a model: one step over a batch of segments. The transformer is the real
// one; tests have a fake whose logits depend on every byte of K and V (fake_forward_pass.h).
#pragma once

#include <cstdint>
#include <span>

#include "base/units.h"
#include "engine/kv_view.h"

namespace pd::engine {

// Consecutive tokens of one sequence. Positions [0, position) are in `kv` already; the pass writes
// [position, position + tokens.size()).
struct Segment {
  std::span<const TokenId> tokens;  // at least 1, ids in [0, vocab)
  Tokens position;
  KvView kv;
  // Logits are computed for the last `logits_rows` tokens of the segment (0: none, 1: the usual).
  std::int32_t logits_rows = 0;
};

// Batch-invariant: what a segment's rows become depends on that segment's own tokens and KV only,
// bit for bit: not on the other segments, not on where the prompt was cut, not on the number of
// threads. The engines rely on it; they do not check it.
class ForwardPass {
 public:
  virtual ~ForwardPass() = default;

  // Any mix of prompt chunks and single decode tokens; the sum of tokens is at most rows_max().
  // Segments have distinct KV rows to write. Result: one row of vocab() f32 per requested logits
  // row, in order of segments; valid until the next call. Blocks the caller.
  virtual std::span<const float> forward(std::span<const Segment> segments) = 0;

  virtual std::int32_t vocab() const = 0;
  virtual std::int32_t rows_max() const = 0;
};

}  // namespace pd::engine
