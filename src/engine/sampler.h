// From logits to the next token. A pure function of (logits, params, history): the draw comes from
// counter_random(seed, output index), so it is the same on P, on D and after a resume.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/units.h"
#include "protocol/sampling_params.h"

namespace pd::engine {

// What the penalties and limits look at.
struct SamplingHistory {
  std::span<const TokenId> prompt;  // needed only if repetition_penalty != 1
  std::span<const TokenId>
      output;  // tokens emitted so far, all attempts; output.size() is the output index
};

struct TokenLogprob {
  TokenId id = 0;
  float logprob = 0.0F;
};

struct SampledToken {
  TokenId id = 0;
  float logprob = 0.0F;  // of the model's own distribution (before penalties and temperature)
  std::vector<TokenLogprob> top;  // the params.logprobs likeliest, by falling logprob, ties by id
};

// `eos`: the model's own end ids, masked together with stop_ids until min_tokens. Order of
// operations: logit_bias, penalties, min_tokens mask, temperature, top-k, top-p, min-p, draw. Ties:
// smaller id first.
SampledToken sample(std::span<const float> logits, const protocol::SamplingParams& params,
                    const SamplingHistory& history, std::span<const TokenId> eos);

// Log-probability of `id` and the `top` likeliest under the model's distribution (prompt logprobs).
SampledToken score(std::span<const float> logits, TokenId id, std::int32_t top);

}  // namespace pd::engine
