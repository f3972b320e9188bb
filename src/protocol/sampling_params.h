// How the next token is chosen and when generation ends. One value for the API, the P/D messages
// and the sampler. Defaults are OpenAI's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"

namespace pd::protocol {

struct SamplingParams {
  float temperature = 1.0F;  // 0: greedy, ties go to the smallest id
  std::int32_t top_k = 0;    // 0: off
  float top_p = 1.0F;
  float min_p = 0.0F;
  float repetition_penalty = 1.0F;  // over prompt and output (Keskar et al. 2019)
  float presence_penalty = 0.0F;    // over output
  float frequency_penalty = 0.0F;   // over output
  std::uint64_t seed = 0;           // always set: the gateway draws one when the client gives none
  std::vector<std::pair<TokenId, float>> logit_bias;  // added to logits before everything else

  Tokens max_tokens{16};                  // output tokens over all attempts of the request
  Tokens min_tokens{0};                   // stop ids are masked until that many
  bool ignore_eos = false;                // the model's own eos ids do not stop
  std::vector<TokenId> stop_ids;          // beside the model's eos
  std::vector<std::string> stop_strings;  // the text ends before the first match

  std::optional<std::int32_t> logprobs;  // alternatives per output token (0: only the chosen one)
  std::optional<std::int32_t>
      prompt_logprobs;  // alternatives per prompt token (echo with logprobs)

  bool operator==(const SamplingParams&) const = default;
};

enum class FinishReason : std::uint8_t { kNone = 0, kStop = 1, kLength = 2 };

}  // namespace pd::protocol
