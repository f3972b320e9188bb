// The model as one worker runs it: mapped weights, kernels, threads, the forward pass. One per
// role.
#pragma once

#include <atomic>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/thread_pool.h"
#include "engine/kernels/kernels.h"
#include "engine/transformer.h"
#include "engine/weights.h"
#include "model/model.h"
#include "protocol/kv_layout.h"

namespace pd::worker {

struct ModelOptions {
  std::filesystem::path path;
  std::string dtype = "auto";
  std::string kernels = "auto";
  std::filesystem::path pack_directory;
  Tokens context_max{0};  // 0: the model's own
  int threads = 1;
  std::uint16_t block_tokens = 16;
};

engine::ComputeType compute_type(std::string_view dtype);

// Room for the warm-up and a short question; what has less serves nothing.
inline constexpr Tokens kContextMin{64};

// The longest request that is served. kInvalidArgument: more than the model was made for.
Result<Tokens> served_context(const model::Model& model, Tokens configured);

// What all roles of a process share: read-only after create().
struct LoadedModel {
  std::unique_ptr<model::Model> model;
  std::unique_ptr<engine::Weights> weights;
  const engine::Kernels* kernels = nullptr;
  protocol::KvLayout layout;
  Tokens context_max;

  // Maps or packs the weights; `fraction` goes from 0 to 1 meanwhile and may be read by other
  // threads.
  static Result<std::unique_ptr<LoadedModel>> load(const ModelOptions& options,
                                                   std::atomic<double>& fraction);
};

// One engine thread's own forward pass.
struct EngineRuntime {
  EngineRuntime(const LoadedModel& loaded, int thread_count, std::int32_t rows_max)
      : pool(thread_count), transformer(*loaded.weights, *loaded.kernels, pool, rows_max) {}
  ThreadPool pool;
  engine::Transformer transformer;
};

// Commands that may wait for an engine thread: a beginning and an end of each that it runs, and
// those of who follows them.
inline std::size_t inbox_size(int requests_max) {
  return 4 * static_cast<std::size_t>(requests_max) + 16;
}

}  // namespace pd::worker
