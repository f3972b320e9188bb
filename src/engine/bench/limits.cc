#include "engine/bench/limits.h"

#include <algorithm>
#include <vector>

#include "base/thread_pool.h"
#include "base/time.h"

namespace pd::engine::bench {
namespace {

// Shortest of many short runs: a limit is what is possible, not what is usual while other programs
// run. Each fits between two of their time slices.
template <typename Body>
double seconds_at_best(std::size_t repetitions, const Body& body) {
  double best = 1e9;
  for (std::size_t i = 0; i < repetitions; ++i) {
    const Time start = SteadyTime::now();
    body(i);
    best = std::min(best, to_seconds(SteadyTime::now() - start));
  }
  return best;
}

double rate(float (*chains)(std::int64_t), double operations_per_round) {
  constexpr std::int64_t kRounds = 100'000;
  volatile float sink = 0.0F;
  const double seconds = seconds_at_best(200, [&](std::size_t) { sink = chains(kRounds); });
  return kRounds * operations_per_round / seconds;
}

}  // namespace

double register_peak(std::string_view kernels, bool bf16_weights) {
  if (kernels == "avx512_bf16" && bf16_weights) return rate(bf16_chains_avx512, 24 * 64.0);
  if (kernels == "avx512_bf16" || kernels == "avx512") return rate(f32_chains_avx512, 24 * 32.0);
  if (kernels == "avx2") return rate(f32_chains_avx2, 24 * 16.0);
  return 0.0;
}

double read_bandwidth(int threads) {
  constexpr std::size_t kPieces = 8;  // of one run
  constexpr std::size_t kWindow = kPieces * kReadBytes;
  constexpr std::size_t kWindows = (std::size_t{512} << 20) / kWindow;  // past any cache of today
  const std::vector<std::byte> memory(kWindows * kWindow, std::byte{1});
  ThreadPool pool(threads);
  volatile std::int64_t sink = 0;
  const double seconds = seconds_at_best(2 * kWindows, [&](std::size_t run) {
    const std::byte* window = memory.data() + run % kWindows * kWindow;
    pool.parallel_for(kPieces,
                      [&](std::size_t piece) { sink = read_avx2(window + piece * kReadBytes); });
  });
  return static_cast<double>(kWindow) / seconds;
}

}  // namespace pd::engine::bench
