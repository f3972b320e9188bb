// From logits to the next token. A pure function of (logits, params, history): the draw comes from
// counter_random(seed, output index), so it is the same on P, on D and after a resume. No
// dependence on the order of additions: probabilities are integers (candidates.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "protocol/sampling_params.h"

namespace pd::engine {

// What the penalties and limits look at. Ids outside the vocabulary are ignored.
struct SamplingHistory {
  std::span<const TokenId> prompt;  // needed only if repetition_penalty != 1
  std::span<const TokenId>
      output;  // tokens emitted so far, all attempts; output.size() is the output index
};

struct TokenLogprob {
  TokenId id = 0;
  float logprob = 0.0F;
  bool operator==(const TokenLogprob&) const = default;
};

struct SampledToken {
  TokenId id = 0;
  // Of the model's own distribution (before bias, penalties and temperature); 0 unless
  // params.logprobs is set.
  float logprob = 0.0F;
  std::vector<TokenLogprob> top;  // the params.logprobs likeliest, by falling logprob, ties by id
  bool operator==(const SampledToken&) const = default;
};

// A temperature below this is greedy: its draw would be the likeliest token up to rounding.
inline constexpr float kGreedyBelow = 1e-5F;

// `eos`: the model's own end ids, masked together with stop_ids until min_tokens. Order of
// operations: logit_bias, penalties, min_tokens mask, temperature, top-k, top-p, min-p, draw. Ties:
// smaller id first. A logit of -inf is a token that is never chosen.
// Errors: kCorrupt when a logit is NaN or +inf or none is finite (damaged weights or KV);
// kInvalidArgument when bias and penalties leave no finite logit.
Result<SampledToken> sample(std::span<const float> logits, const protocol::SamplingParams& params,
                            const SamplingHistory& history, std::span<const TokenId> eos);

// Log-probability of `id` (in [0, vocab)) and the `top` likeliest under the model's distribution
// (prompt logprobs). Errors: kCorrupt as above.
Result<SampledToken> score(std::span<const float> logits, TokenId id, std::int32_t top);

}  // namespace pd::engine
