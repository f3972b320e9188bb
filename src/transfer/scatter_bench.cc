// What checking and scattering a prompt's KV costs beside a memcpy of the same bytes.
//   build/release/scatter_bench --benchmark_repetitions=5 --benchmark_report_aggregates_only=true
#include <benchmark/benchmark.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "base/rng.h"
#include "transfer/kv_range.h"
#include "transfer/pages.h"
#include "transfer/range_reader.h"

namespace pd::transfer {
namespace {

// SmolLM2-135M's.
constexpr protocol::KvLayout kLayout{.layers = 30, .kv_heads = 3, .head_dim = 64};

struct Prompt {
  explicit Prompt(std::int64_t bytes)
      : tokens(bytes / kLayout.token().value()),
        range(Pages::create(range_bytes(kLayout, tokens)).value()),
        blocks(blocks_for(tokens, Tokens(kLayout.block_tokens)).value()),
        pool(Pages::create(kLayout.block_plane() * (blocks * 60)).value()) {
    std::memset(pool.memory().data(), 1, pool.memory().size());
    std::memset(bytes_of_range().data(), 2, bytes_of_range().size());
    write_range_header(kLayout, bytes_of_range(), ticket());
    for (int plane = 0; plane < 60; ++plane) {
      planes.push_back(pool.memory().data() + plane * blocks * kLayout.block_plane().value());
    }
    // Blocks in no order, as a pool in use hands them out.
    Rng rng(1);
    for (std::int64_t i = 0; i < blocks; ++i) table.emplace_back(static_cast<std::uint32_t>(i));
    for (std::size_t i = table.size(); i > 1; --i) std::swap(table[i - 1], table[rng.below(i)]);
  }
  KvRangeTicket ticket() const { return {Epoch(1), {2, 3}, tokens}; }
  std::span<std::byte> bytes_of_range() const {
    return range.memory().first(static_cast<std::size_t>(range_bytes(kLayout, tokens).value()));
  }
  Tokens tokens;
  Pages range;
  std::int64_t blocks;
  Pages pool;
  std::vector<std::byte*> planes;
  std::vector<BlockIndex> table;
};

void copy(benchmark::State& state) {
  const Prompt prompt(state.range(0));
  const std::size_t size = prompt.bytes_of_range().size();
  const Pages to = Pages::create(Bytes(static_cast<std::int64_t>(size))).value();
  std::memset(to.memory().data(), 1, size);
  for (auto _ : state) {
    std::memcpy(to.memory().data(), prompt.bytes_of_range().data(), size);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(size));
}

void scatter(benchmark::State& state) {
  const Prompt prompt(state.range(0));
  const auto kv = kv_of(kLayout, prompt.bytes_of_range());
  for (auto _ : state) {
    for (int layer = 0; layer < kLayout.layers; ++layer) {
      scatter_layer({kLayout, prompt.planes}, prompt.table, kv, prompt.tokens, layer);
    }
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kv.size()));
}

void scatter_around_cache(benchmark::State& state) {
  const Prompt prompt(state.range(0));
  const auto kv = kv_of(kLayout, prompt.bytes_of_range());
  const std::size_t plane = kv.size() / 60;
  for (auto _ : state) {
    for (int p = 0; p < 60; ++p) {
      scatter_rows({kLayout, prompt.planes}, prompt.table, {p / 2, p % 2}, Tokens(0),
                   kv.subspan(static_cast<std::size_t>(p) * plane, plane), Stores::kAroundCache,
                   Bytes(0));
    }
    stores_done();
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kv.size()));
}

void check_and_scatter(benchmark::State& state) {
  const Prompt prompt(state.range(0));
  const auto kv = kv_of(kLayout, prompt.bytes_of_range());
  const auto header = prompt.bytes_of_range().first(prompt.bytes_of_range().size() - kv.size());
  for (auto _ : state) {
    RangeReader reader({kLayout, prompt.planes}, prompt.table, prompt.ticket());
    if (!reader.header(header) || !reader.feed(kv)) state.SkipWithError("the range is not right");
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kv.size()));
}

BENCHMARK(copy)->Arg(1 << 20)->Arg(6 << 20)->Arg(64 << 20);
BENCHMARK(scatter)->Arg(1 << 20)->Arg(6 << 20)->Arg(64 << 20);
BENCHMARK(scatter_around_cache)->Arg(1 << 20)->Arg(6 << 20)->Arg(64 << 20);
BENCHMARK(check_and_scatter)->Arg(1 << 20)->Arg(6 << 20)->Arg(64 << 20);

}  // namespace
}  // namespace pd::transfer

BENCHMARK_MAIN();
