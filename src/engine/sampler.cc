#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/rng.h"
#include "engine/candidates.h"

namespace pd::engine {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

bool in_vocab(TokenId id, std::size_t vocab) {
  return id >= 0 && static_cast<std::size_t>(id) < vocab;
}

bool must_mask(const protocol::SamplingParams& params, const SamplingHistory& history) {
  return static_cast<std::int64_t>(history.output.size()) < params.min_tokens.value();
}

bool changes_logits(const protocol::SamplingParams& params, const SamplingHistory& history) {
  return !params.logit_bias.empty() || params.repetition_penalty != 1.0F ||
         params.presence_penalty != 0.0F || params.frequency_penalty != 0.0F ||
         must_mask(params, history);
}

// Divides positive logits and multiplies negative ones, once per distinct id of the history.
void penalise_repetition(std::vector<float>& logits, float penalty,
                         const SamplingHistory& history) {
  std::vector<bool> seen(logits.size());
  for (const std::span<const TokenId> part : {history.prompt, history.output}) {
    for (const TokenId id : part) {
      if (!in_vocab(id, logits.size())) continue;
      const auto at = static_cast<std::size_t>(id);
      if (seen[at]) continue;
      seen[at] = true;
      logits[at] = logits[at] > 0.0F ? logits[at] / penalty : logits[at] * penalty;
    }
  }
}

void penalise_output(std::vector<float>& logits, const protocol::SamplingParams& params,
                     std::span<const TokenId> output) {
  std::vector<TokenId> sorted(output.begin(), output.end());
  std::sort(sorted.begin(), sorted.end());
  for (auto it = sorted.begin(); it != sorted.end();) {
    const auto end = std::upper_bound(it, sorted.end(), *it);
    if (in_vocab(*it, logits.size())) {
      logits[static_cast<std::size_t>(*it)] -=
          params.presence_penalty + params.frequency_penalty * static_cast<float>(end - it);
    }
    it = end;
  }
}

std::vector<float> adjust(std::span<const float> logits, const protocol::SamplingParams& params,
                          const SamplingHistory& history, std::span<const TokenId> eos) {
  std::vector<float> out(logits.begin(), logits.end());
  for (const auto& [id, bias] : params.logit_bias) {
    if (in_vocab(id, out.size())) out[static_cast<std::size_t>(id)] += bias;
  }
  if (params.repetition_penalty != 1.0F) {
    penalise_repetition(out, params.repetition_penalty, history);
  }
  if (params.presence_penalty != 0.0F || params.frequency_penalty != 0.0F) {
    penalise_output(out, params, history.output);
  }
  if (must_mask(params, history)) {
    for (const std::span<const TokenId> ids : {eos, std::span<const TokenId>(params.stop_ids)}) {
      for (const TokenId id : ids) {
        if (in_vocab(id, out.size())) out[static_cast<std::size_t>(id)] = kMasked;
      }
    }
  }
  return out;
}

TokenId choose(std::span<const float> logits, const Peak& peak,
               const protocol::SamplingParams& params, std::uint64_t output_index) {
  if (!(params.temperature >= kGreedyBelow) || params.top_k == 1) return peak.id;
  Candidates candidates(logits, peak.value, params.temperature);
  if (params.top_k > 0) candidates.keep_top_k(params.top_k);
  if (params.top_p < 1.0F) candidates.keep_top_p(params.top_p);
  if (params.min_p > 0.0F) candidates.keep_min_p(params.min_p);
  return candidates.draw(counter_random(params.seed, output_index));
}

// The `count` largest, by falling logit, ties by smaller id.
std::vector<TokenId> likeliest(std::span<const float> logits, std::int32_t count) {
  const std::size_t wanted =
      std::min(static_cast<std::size_t>(std::max(count, std::int32_t{0})), logits.size());
  const auto before = [&](TokenId a, TokenId b) {
    const float x = logits[static_cast<std::size_t>(a)];
    const float y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::vector<TokenId> heap;  // the last of those kept is in front
  if (wanted == 0) return heap;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (heap.size() == wanted) {
      if (!before(id, heap.front())) continue;
      std::pop_heap(heap.begin(), heap.end(), before);
      heap.back() = id;
    } else {
      heap.push_back(id);
    }
    std::push_heap(heap.begin(), heap.end(), before);
  }
  std::sort_heap(heap.begin(), heap.end(), before);
  return heap;
}

void add_logprobs(std::span<const float> logits, float peak, std::int32_t top, SampledToken& out) {
  const double total = log_total(logits, peak);
  const auto logprob = [&](TokenId id) {
    const double distance =
        static_cast<double>(logits[static_cast<std::size_t>(id)]) - static_cast<double>(peak);
    return static_cast<float>(distance - total);
  };
  out.logprob = logprob(out.id);
  for (const TokenId id : likeliest(logits, top)) out.top.push_back({id, logprob(id)});
}

std::unexpected<Error> not_finite(std::size_t output_index) {
  return error(ErrorCode::kCorrupt,
               fmt::format("the logits of output token {} are not finite: the model's weights or "
                           "the request's KV are damaged",
                           output_index));
}

}  // namespace

Result<SampledToken> sample(std::span<const float> logits, const protocol::SamplingParams& params,
                            const SamplingHistory& history, std::span<const TokenId> eos) {
  const Peak own = peak_of(logits);
  if (!own.valid) return not_finite(history.output.size());
  std::vector<float> adjusted;
  std::span<const float> effective = logits;
  Peak peak = own;
  if (changes_logits(params, history)) {
    adjusted = adjust(logits, params, history, eos);
    effective = adjusted;
    peak = peak_of(effective);
    if (!peak.valid) {
      return error(ErrorCode::kInvalidArgument,
                   "logit_bias, penalties and min_tokens leave no token to choose: use smaller "
                   "values, or stop ids that do not cover the vocabulary");
    }
  }
  SampledToken out;
  out.id = choose(effective, peak, params, history.output.size());
  if (params.logprobs) add_logprobs(logits, own.value, *params.logprobs, out);
  return out;
}

Result<SampledToken> score(std::span<const float> logits, TokenId id, std::int32_t top) {
  CHECK(in_vocab(id, logits.size()));
  const Peak peak = peak_of(logits);
  if (!peak.valid) return not_finite(0);
  SampledToken out;
  out.id = id;
  add_logprobs(logits, peak.value, top, out);
  return out;
}

}  // namespace pd::engine
