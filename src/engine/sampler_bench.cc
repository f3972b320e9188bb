// Cost of one sampled token by vocabulary and parameters.
#include <benchmark/benchmark.h>

#include "base/rng.h"
#include "engine/sampler.h"

namespace {

using namespace pd;

std::vector<float> logits_of(std::int64_t vocab) {
  Rng rng(1);
  std::vector<float> out(static_cast<std::size_t>(vocab));
  for (float& x : out) {
    x = static_cast<float>(6.0 * (rng.unit() + rng.unit() + rng.unit() + rng.unit() - 2.0));
  }
  return out;
}

void run(benchmark::State& state, const protocol::SamplingParams& params) {
  const std::vector<float> logits = logits_of(state.range(0));
  const std::vector<TokenId> output(500, 7);
  for (auto _ : state) {
    benchmark::DoNotOptimize(engine::sample(logits, params, {output, output}, {}));
  }
}

void greedy(benchmark::State& state) {
  protocol::SamplingParams params;
  params.temperature = 0.0F;
  run(state, params);
}
void plain(benchmark::State& state) { run(state, {}); }
void top_k_top_p(benchmark::State& state) {
  protocol::SamplingParams params;
  params.top_k = 50;
  params.top_p = 0.9F;
  run(state, params);
}
void top_p(benchmark::State& state) {
  protocol::SamplingParams params;
  params.top_p = 0.9F;
  run(state, params);
}
void penalties(benchmark::State& state) {
  protocol::SamplingParams params;
  params.repetition_penalty = 1.1F;
  params.frequency_penalty = 0.2F;
  run(state, params);
}
void logprobs(benchmark::State& state) {
  protocol::SamplingParams params;
  params.temperature = 0.0F;
  params.logprobs = 5;
  run(state, params);
}

BENCHMARK(greedy)->Arg(49152)->Arg(151936);
BENCHMARK(plain)->Arg(49152)->Arg(151936);
BENCHMARK(top_k_top_p)->Arg(49152)->Arg(151936);
BENCHMARK(top_p)->Arg(49152)->Arg(151936);
BENCHMARK(penalties)->Arg(49152)->Arg(151936);
BENCHMARK(logprobs)->Arg(49152)->Arg(151936);

}  // namespace

BENCHMARK_MAIN();
