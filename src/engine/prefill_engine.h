// P's engine: prompts in, first token and KV out. Synchronous and without a thread of its own: one
// step() is one forward pass. What goes into it is policy::PrefillBatcher's decision.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "base/units.h"
#include "engine/forward_pass.h"
#include "engine/prefix_cache.h"
#include "engine/sampler.h"
#include "policy/batcher.h"
#include "policy/holder.h"
#include "protocol/sampling_params.h"

namespace pd::engine {

struct PrefillJob {
  policy::Holder id;
  std::vector<TokenId> tokens;  // the prompt, then the output emitted so far (resume); at least 1
  Tokens prompt_length;         // in [1, tokens.size()]
  protocol::SamplingParams sampling;
  std::uint64_t tenant_salt = 0;  // separates prefix caches (G30)
  KvRange range;  // room for all tokens; the engine writes it until the job has ended
  Time deadline = Time::max();
};

struct PrefillEvent {
  enum class Kind : std::uint8_t {
    kFinished,  // KV of all tokens is in the range, `first` is the next token
    kExpired,   // the deadline passed before it was done
    kFailed,    // `error`: the model's numbers are damaged, or the parameters leave no token
  };
  Kind kind = Kind::kFinished;
  policy::Holder id;
  SampledToken first;
  Tokens cached;    // positions taken from the prefix cache
  Tokens computed;  // positions computed; cached + computed == tokens.size() when finished
  std::optional<Time> started;  // the step that computed its first chunk
  // When asked: for each prompt token from the second on, its log-probability.
  std::vector<SampledToken> prompt_logprobs;
  Error error;
};

struct PrefillEngineOptions {
  policy::BatcherOptions batcher;  // the budget is cut to the model's rows_max
  // A job that wants prompt logprobs needs logits for every row: so many rows at once.
  Tokens logits_rows_max{32};
  std::vector<TokenId> eos;  // the model's own end ids
};

// Counters since creation: the worker's progress signal.
struct EngineProgress {
  std::uint64_t iterations = 0;  // forward passes
  std::uint64_t tokens = 0;      // rows computed
  std::uint64_t cached = 0;      // prompt positions of ended jobs taken from the prefix cache
};

class PrefillEngine {
 public:
  // `model` and `cache` outlive it; no cache when null.
  PrefillEngine(ForwardPass& model, const protocol::KvLayout& layout, PrefixCache* cache,
                const PrefillEngineOptions& options);

  // kInvalidArgument for a job that breaks its description, kAlreadyExists for a known id.
  Status add(PrefillJob job);
  // Afterwards the engine does not touch the job's range any more. False: unknown.
  bool cancel(const policy::Holder& id);

  // Drops expired jobs, computes one batch of chunks. Jobs of the events returned are no longer
  // known.
  std::vector<PrefillEvent> step(Time now);

  bool idle() const { return jobs_.empty(); }
  std::size_t jobs() const { return jobs_.size(); }
  Tokens queued() const { return batcher_.queued(); }
  const EngineProgress& progress() const { return progress_; }

 private:
  struct Running {
    PrefillJob job;
    Tokens cached{0};
    Tokens done{0};  // positions in the range, cached ones included
    std::optional<Time> started;
    std::vector<SampledToken> prompt_logprobs;
    bool wants_prompt_logits(Tokens position) const;
  };
  void load_prefixes();
  std::optional<PrefillEvent> advance(Running& running, Tokens tokens, std::span<const float> rows);
  Status score_prompt(Running& running, std::span<const float> rows, std::size_t count);
  static PrefillEvent ended(PrefillEvent::Kind kind, Running& running);

  ForwardPass& model_;
  protocol::KvLayout layout_;
  PrefixCache* cache_;
  PrefillEngineOptions options_;
  policy::PrefillBatcher batcher_;
  std::map<policy::Holder, Running> jobs_;
  EngineProgress progress_;
};

}  // namespace pd::engine
