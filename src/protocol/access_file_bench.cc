// What an access file costs by its keys: time for each must not grow with their number, a gateway
// reads the file anew at every change.
//   ninja -C build/release access_file_bench && build/release/access_file_bench
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <iterator>

#include "base/check.h"
#include "protocol/access_file.h"

namespace pd::protocol {
namespace {

void bm_keys(benchmark::State& state) {
  std::string text = "[[tenant]]\nname = \"search\"\n";
  for (int i = 0; i < state.range(0); ++i)
    text += fmt::format(
        "[[key]]\nname = \"backend{}\"\ntenant = \"search\"\nsha256 = \"{:064x}\"\n", i, i);
  for (auto _ : state) {
    const auto file = parse_access_file(text, "access.toml");
    CHECK(file && std::ssize(file->keys) == state.range(0));
  }
  state.SetComplexityN(state.range(0));
  state.counters["per_key"] = benchmark::Counter(
      static_cast<double>(state.range(0)),
      benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
BENCHMARK(bm_keys)->Arg(500)->Arg(5'000)->Arg(50'000)->Complexity()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace pd::protocol

BENCHMARK_MAIN();
