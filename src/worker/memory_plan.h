// What instances of one model take of a machine's memory, from the configuration and the model's
// shape alone: asked by a worker for its own sizes, and by `up` and `check` before anything starts.
#pragma once

#include <string>

#include "base/result.h"
#include "base/units.h"
#include "model/model.h"
#include "protocol/kv_layout.h"
#include "worker/engine_runtime.h"

namespace pd::worker {

// Sizes as configured; 0 lets the plan choose.
struct MemorySettings {
  int slots = 4;
  Bytes send_buffer{0};
  Bytes prefix_cache{0};
  int batch = 32;
  Bytes kv_memory{0};
};

// What a P sends from: room for `slots` prompts of the longest length, but of more than 256 MiB
// only as much as one needs. Its pages are reserved at the start, so a generous guess costs every
// P.
Bytes send_buffer_size(const protocol::KvLayout& layout, Tokens context_max,
                       const MemorySettings& settings);
// What a D decodes from: room for `batch` requests of the longest length, but of more than 1 GiB
// only as much as two need. Its pages are taken when they are first used.
Bytes kv_pool_size(const protocol::KvLayout& layout, Tokens context_max,
                   const MemorySettings& settings);

struct MemoryPlan {
  Bytes weights;       // one packed copy for all instances of a machine
  Bytes send_buffer;   // each instance that prefills
  Bytes prefix_cache;  // each instance that prefills, when it is full
  Bytes kv_pool;       // each instance that decodes, when it is full

  // `model` is open, not loaded. Errors: those of Weights::packed_size and select_kernels.
  static Result<MemoryPlan> make(const model::Model& model, const ModelOptions& options,
                                 const MemorySettings& settings);
  // Of that many instances by role.
  Bytes total(int prefill, int decode, int both) const;
  // "weights 256 MiB, 2 x send buffer 256 MiB, ...": for messages.
  std::string describe(int prefill, int decode, int both) const;
};

}  // namespace pd::worker
