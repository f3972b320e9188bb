// A prompt's KV from one process to another beside a memcpy of the same size, in the same run.
//
//   handoff_bench [ROUNDS]
//
// Every round does each way once, so that what else the machine does meets all of them. Prints
// median and spread (half the distance between the quartiles, in percent) over the rounds.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "transfer/handoff_receiver.h"
#include "transfer/test_range.h"
#include "transfer/test_support.h"

namespace pd::transfer {
namespace {

using test::kTestLayout;

constexpr Tokens kTokens{2912};  // 64 MiB of SmolLM2-135M's KV

// One P process and D's transport to it.
struct Pair {
  Pair(const std::string& wires_name, Wires wires, std::uint64_t boot)
      : peer({std::to_string(boot), wires_name,
              std::to_string((range_bytes(kTestLayout, kTokens) + Bytes(1 << 14)).value()),
              std::to_string(kTokens.value())}) {
    UcxOptions options;
    options.wires = wires;
    transport = make_ucx_transport(BootId(1000 + boot), options).value();
  }
  test::Peer peer;
  std::unique_ptr<KvTransport> transport;
};

HandoffPlan plan_for(const Pair& pair, const test::Pool& pool, bool block_fixed) {
  return {.descriptor = {.boot_id = pair.peer.address().boot_id,
                         .address_blob = pair.peer.address().blob,
                         .region_key = pair.peer.region_key(),
                         .offset = test::kTestRangeOffset,
                         .size = range_bytes(kTestLayout, kTokens),
                         .layout_hash = kTestLayout.hash(),
                         .weights_digest = kTestLayout.weights_digest,
                         .tokens = kTokens,
                         .epoch = Epoch(7),
                         .read_key = {0x1234, 0x5678}},
          .pool = pool.view(),
          .table = pool.table(),
          .block_fixed = block_fixed};
}

// Pull, check, scatter and the notice to P.
HandoffStats hand_off(Pair& pair, const test::Pool& pool, bool block_fixed) {
  std::optional<Result<HandoffStats>> result;
  const auto receiver = std::make_shared<HandoffReceiver>(
      plan_for(pair, pool, block_fixed), [&](Result<HandoffStats> r) { result = std::move(r); });
  receiver->start(*pair.transport);
  while (!result) pair.transport->progress(std::nullopt);
  if (!*result) {
    fmt::print(stderr, "{}\n", result->error().message);
    std::exit(1);
  }
  return **result;
}

// Pull and scatter, believing the bytes.
void hand_off_unchecked(Pair& pair, const test::Pool& pool) {
  const HandoffPlan plan = plan_for(pair, pool, false);
  bool over = false;
  pair.transport->pull(
      pair.peer.address(),
      {plan.descriptor.region_key, plan.descriptor.offset, plan.descriptor.size},
      [&](Result<std::span<const std::byte>> bytes) {
        CHECK(bytes.has_value());
        const auto kv =
            bytes->subspan(static_cast<std::size_t>(range_header_bytes(kTestLayout).value()));
        const auto planes = static_cast<std::size_t>(2 * kTestLayout.layers);
        const std::size_t size = kv.size() / planes;
        for (std::size_t p = 0; p < planes; ++p) {
          scatter_rows(plan.pool, plan.table, {static_cast<int>(p / 2), static_cast<int>(p % 2)},
                       Tokens(0), kv.subspan(p * size, size), Stores::kAroundCache,
                       Bytes(static_cast<std::int64_t>(kv.size() - (p + 1) * size)));
        }
        stores_done();
        over = true;
      });
  while (!over) pair.transport->progress(std::nullopt);
}

struct Row {
  const char* name;
  std::function<void()> run;
  std::vector<double> seconds;
};

void print(const Row& row, double copy_seconds) {
  std::vector<double> sorted = row.seconds;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t n = sorted.size();
  const double median = sorted[n / 2];
  const double spread = 50.0 * (sorted[3 * n / 4] - sorted[n / 4]) / median;
  const double gb = static_cast<double>(kTestLayout.range(kTokens).value()) / 1e9;
  fmt::print(
      "{:<44} {:>9.2f} ms  {:>6.2f} GB/s  spread {:>3.0f}%  best {:>6.2f} GB/s  {:>6.3f} x "
      "memcpy\n",
      row.name, median * 1e3, gb / median, spread, gb / sorted[0], copy_seconds / median);
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown CPU";
}

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int run(int rounds) {
  log::configure("handoff_bench", log::Level::kWarn);
  Pair shared("shm", Wires::kSharedMemory, 1);
  Pair tcp("tcp", Wires::kTcp, 2);
  const test::Pool pool(kTestLayout, kTokens, 1);
  const auto size = static_cast<std::size_t>(kTestLayout.range(kTokens).value());
  const Pages from = Pages::create(Bytes(static_cast<std::int64_t>(size))).value();
  const Pages to = Pages::create(Bytes(static_cast<std::int64_t>(size))).value();
  test::fill_random(from.memory(), 1);
  test::fill_random(to.memory(), 2);
  std::uint32_t pieces[2] = {};
  std::vector<Row> rows{
      {"memcpy", [&] { std::memcpy(to.memory().data(), from.memory().data(), size); }, {}},
      {"shared memory: pull, check, scatter, notify", [&] { hand_off(shared, pool, false); }, {}},
      {"shared memory: pull, scatter", [&] { hand_off_unchecked(shared, pool); }, {}},
      {"shared memory, block-fixed", [&] { pieces[0] = hand_off(shared, pool, true).pieces; }, {}},
      {"tcp: pull, check, scatter, notify", [&] { hand_off(tcp, pool, false); }, {}},
      {"tcp, block-fixed", [&] { pieces[1] = hand_off(tcp, pool, true).pieces; }, {}},
  };
  for (Row& row : rows) row.run();  // connects, maps, faults pages in
  for (int round = 0; round < rounds; ++round) {
    for (Row& row : rows) {
      const Time begin = SteadyTime::now();
      row.run();
      row.seconds.push_back(to_seconds(SteadyTime::now() - begin));
    }
  }
  fmt::print("{}; {} tokens, {} bytes; median of {} rounds\n", cpu_name(), kTokens.value(), size,
             rounds);
  const double copy = median_of(rows[0].seconds);
  for (const Row& row : rows) print(row, copy);
  fmt::print(
      "block-free against block-fixed ({} pieces of 16 tokens): shared memory {:.1f} x, tcp {:.1f} "
      "x\n",
      pieces[0], median_of(rows[3].seconds) / median_of(rows[1].seconds),
      median_of(rows[5].seconds) / median_of(rows[4].seconds));
  return 0;
}

}  // namespace
}  // namespace pd::transfer

int main(int argc, char** argv) { return pd::transfer::run(argc > 1 ? std::atoi(argv[1]) : 15); }
