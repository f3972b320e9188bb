// A prefill and a decode engine with a handoff between them, in one process and without sockets:
// what a request goes through in a cluster, with every choice that must not matter as a setting.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "engine/forward_pass.h"
#include "protocol/sampling_params.h"

namespace pd::exactness {

struct Request {
  std::vector<TokenId> prompt;
  std::vector<TokenId> emitted;  // before this run: a resume
  protocol::SamplingParams sampling;
};
using Output = std::vector<TokenId>;  // all tokens of a request, max_tokens of them

struct PairSettings {
  std::string name;
  std::int64_t chunk = 64;          // prefill tokens per step
  std::size_t slots = 6;            // prompts at once
  std::size_t batch = 16;           // decode jobs at once
  int prefill_steps = 1;            // per decode step: more of them make larger decode batches
  std::int64_t pool_blocks = 4096;  // small: jobs are evicted and placed again
  std::int64_t cache_blocks = 0;    // of the prefix cache
  std::uint64_t order = 0;          // seed of the order of arrival; 0: as given
};

struct PairCounts {
  std::uint64_t cached = 0;    // prompt tokens taken from the prefix cache
  std::uint64_t computed = 0;  // prompt tokens computed
  std::uint64_t evicted = 0;
};

struct PairResult {
  std::vector<Output> outputs;  // as the requests
  PairCounts counts;
};

// Runs all requests to max_tokens.
PairResult run_pair(engine::ForwardPass& model, const protocol::KvLayout& layout,
                    ThreadPool& threads, const PairSettings& settings,
                    const std::vector<Request>& requests);

// The yardstick: one request at a time, its prompt in one pass, then token by token in the same
// contiguous range. No engine, no batch, no block.
Output run_alone(engine::ForwardPass& model, const protocol::KvLayout& layout,
                 const Request& request);

}  // namespace pd::exactness
