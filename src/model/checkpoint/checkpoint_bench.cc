// How fast weights come out of their files. Bytes are those of the stored form, so that a figure
// compares with the memory bandwidth.
//   checkpoint_bench                                      widening, from memory
//   PATH to a model as first argument                     also open and digest of that model
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstring>
#include <vector>

#include "model/checkpoint/checkpoint.h"
#include "model/tensor.h"

namespace pd::model {
namespace {

void widen_values(benchmark::State& state, DType dtype) {
  constexpr std::int64_t kValues = 1 << 20;
  const DTypeBlock block = block_of(dtype);
  const std::vector<std::byte> stored(
      static_cast<std::size_t>(kValues / block.values * block.bytes), std::byte{0x31});
  std::vector<float> out(kValues);
  for (auto _ : state) {
    widen(dtype, stored, out);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(stored.size()));
  state.SetItemsProcessed(state.iterations() * kValues);
}

void open_model(benchmark::State& state, const std::string& path) {
  for (auto _ : state) {
    const auto model = Checkpoint::open(path);
    if (!model) return state.SkipWithError(model.error().message.c_str());
    benchmark::DoNotOptimize((*model)->config().layers);
  }
}

void digest_model(benchmark::State& state, const std::string& path) {
  std::int64_t bytes = 0;
  for (auto _ : state) {
    const auto model = Checkpoint::open(path);
    if (!model) return state.SkipWithError(model.error().message.c_str());
    benchmark::DoNotOptimize((*model)->weights_digest());
    bytes += (*model)->stored_size().value();
  }
  state.SetBytesProcessed(bytes);
}

}  // namespace
}  // namespace pd::model

int main(int argc, char** argv) {
  using namespace pd::model;
  benchmark::Initialize(&argc, argv);
  for (const DType dtype :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1}) {
    benchmark::RegisterBenchmark(fmt::format("widen/{}", to_string(dtype)).c_str(), widen_values,
                                 dtype);
  }
  if (argc > 1) {
    const std::string path = argv[1];
    benchmark::RegisterBenchmark("open", open_model, path)->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark("digest", digest_model, path)->Unit(benchmark::kMillisecond);
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
