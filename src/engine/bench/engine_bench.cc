// engine_bench linear [KERNELS]
// engine_bench model PATH [KERNELS [THREADS]]
//
// Speed of the linear operator and of whole models, each beside the limit that it runs into:
// medians and best runs of the repetitions; spread is (longest - shortest) / median. Shares compare
// best with best.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/thread_pool.h"
#include "base/time.h"
#include "engine/bench/limits.h"
#include "engine/transformer.h"

namespace pd::engine::bench {
namespace {

struct Median {
  double seconds = 0.0;
  double best = 0.0;
  double spread = 0.0;
};

template <typename Body>
Median measure(int repetitions, const Body& body) {
  std::vector<double> seconds;
  for (int i = 0; i < repetitions; ++i) {
    const Time start = SteadyTime::now();
    body(i);
    seconds.push_back(to_seconds(SteadyTime::now() - start));
  }
  std::ranges::sort(seconds);
  const double median = seconds[seconds.size() / 2];
  return {median, seconds.front(), (seconds.back() - seconds.front()) / median};
}

std::vector<std::byte> filled(std::size_t bytes) {
  // 0x3C3C: about 0.0115 as bf16, so that sums stay finite.
  return std::vector<std::byte>(bytes, std::byte{0x3C});
}

// Weights of one shape, more of them than caches hold, so that few rows read them from memory.
struct Shape {
  std::int64_t columns, depth;
};

void bench_shape(const Kernels& kernels, const Shape& shape) {
  const double peak = register_peak(kernels.name, true);
  const double bandwidth = read_bandwidth(1);
  fmt::print("N {}, K {}: register peak {:.0f} GFLOP/s, memory {:.1f} GB/s\n", shape.columns,
             shape.depth, peak / 1e9, bandwidth / 1e9);
  const std::int64_t bytes = shape.columns * shape.depth * 2;
  const std::int64_t copies = std::max<std::int64_t>(1, (std::int64_t{512} << 20) / bytes);
  const auto weights = filled(static_cast<std::size_t>(bytes * copies + 64));
  const auto* aligned = reinterpret_cast<const std::byte*>(
      (reinterpret_cast<std::uintptr_t>(weights.data()) + 63) / 64 * 64);
  for (const std::int64_t rows : {1, 8, 32, 256}) {
    const auto x = filled(static_cast<std::size_t>(rows * shape.depth * 4));
    std::vector<float> out(static_cast<std::size_t>(rows * shape.columns));
    // One run is one product: short enough to fall between the time slices of other programs.
    const Median time = measure(rows >= 32 ? 60 : 600, [&](int run) {
      const LinearArgs args{
          .x = x.data(),
          .x_stride = shape.depth * (kernels.multiplies_bf16 ? 2 : 4),
          .w = {aligned + run % copies * bytes, WeightType::kBF16, shape.columns, shape.depth},
          .out = out.data(),
          .out_stride = shape.columns,
          .rows = rows};
      kernels.linear(args, 0, shape.columns / kTileRows);
    });
    const double operations = 2.0 * static_cast<double>(rows * shape.columns * shape.depth);
    const double read = static_cast<double>(bytes);
    const double onednn = onednn_rate(rows, shape.columns, shape.depth);
    fmt::print("{:>5} {:>9.1f} {:>6.0f}% {:>9.1f} {:>6.0f}% {:>9.1f} {:>6.0f}% {:>9.1f}\n", rows,
               operations / time.seconds / 1e9, 100 * time.spread, operations / time.best / 1e9,
               peak > 0 ? 100 * operations / time.best / peak : 0.0, read / time.best / 1e9,
               100 * read / time.best / bandwidth, onednn / 1e9);
  }
}

void bench_linear(const Kernels& kernels) {
  fmt::print(
      "kernels {}, bf16 weights, one thread; rates in GFLOP/s; shares, bytes and oneDNN of "
      "the best run\n{:>5} {:>9} {:>7} {:>9} {:>7} {:>9} {:>7} {:>9}\n",
      kernels.name, "rows", "median", "spread", "best", "%peak", "GB/s", "%memory", "oneDNN");
  for (const Shape shape :
       {Shape{960, 576}, Shape{576, 1536}, Shape{3072, 576}, Shape{9728, 896}, Shape{896, 4864}})
    bench_shape(kernels, shape);
}

// Sequences of one length with room for more, contiguous.
struct Batch {
  Batch(const protocol::KvLayout& layout, std::int64_t count, std::int64_t capacity)
      : memory(static_cast<std::size_t>(layout.range(Tokens(capacity)).value() * count)) {
    const auto size = static_cast<std::size_t>(layout.range(Tokens(capacity)).value());
    for (std::int64_t i = 0; i < count; ++i) {
      views.push_back(KvView::contiguous(layout, memory.data() + static_cast<std::size_t>(i) * size,
                                         Tokens(capacity)));
    }
  }
  std::vector<std::byte> memory;
  std::vector<KvView> views;
};

// Bytes of weights that a step reads, and operations per token, attention left out.
struct Work {
  double bytes = 0.0;
  double operations = 0.0;
};

Work work_of(const Weights& weights) {
  Work work;
  const auto add = [&](const Matrix& matrix) {
    const double values = static_cast<double>(matrix.rows) * static_cast<double>(matrix.columns);
    work.bytes += values * (matrix.type == WeightType::kF32 ? 4 : 2);
    work.operations += 2 * values;
  };
  for (int i = 0; i < weights.config().layers; ++i) {
    const LayerWeights& layer = weights.layer(i);
    for (const Matrix& matrix : {layer.qkv, layer.output, layer.gate_up, layer.down}) add(matrix);
  }
  add(weights.head());
  return work;
}

void bench_model(const Weights& weights, const Kernels& kernels, int threads) {
  constexpr std::int64_t kPrompt = 512;
  constexpr std::int64_t kContext = 256;  // of each sequence while decoding
  ThreadPool pool(threads);
  Transformer transformer(weights, kernels, pool, kPrompt);
  const protocol::KvLayout layout = kv_layout(weights, kernels, 16);
  const bool bf16 = weights.type() == WeightType::kBF16;
  const double peak = register_peak(kernels.name, bf16) * threads;
  const double bandwidth = read_bandwidth(threads);
  const Work work = work_of(weights);
  const double head = 2.0 * weights.config().vocab * weights.config().hidden;
  fmt::print(
      "kernels {}, {} threads: register peak {:.0f} GFLOP/s, memory {:.1f} GB/s; weights "
      "{:.0f} MB, {:.0f} MFLOP per token\n",
      kernels.name, threads, peak / 1e9, bandwidth / 1e9, work.bytes / 1e6, work.operations / 1e6);

  std::vector<TokenId> tokens(kPrompt);
  for (std::size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<TokenId>(i * 7919 % static_cast<std::size_t>(transformer.vocab()));
  for (const std::int64_t count : {1, 8, 32}) {
    const std::int64_t each = kPrompt / count;
    Batch batch(layout, count, each);
    std::vector<Segment> step;
    for (const KvView& view : batch.views) {
      step.push_back({.tokens = std::span(tokens).first(static_cast<std::size_t>(each)),
                      .kv = view,
                      .logits_rows = 1});
    }
    const Median median = measure(7, [&](int) { transformer.forward(step); });
    const double operations =
        (work.operations - head) * kPrompt + head * static_cast<double>(count);
    fmt::print(
        "prefill batch {:>2} of {} tokens: {:>6.0f} tokens/s (spread {:.0f}%), {:.0f}% of peak\n",
        count, each, kPrompt / median.seconds, 100 * median.spread,
        100 * operations / median.seconds / peak);
  }
  for (const std::int64_t count : {1, 8, 32}) {
    Batch batch(layout, count, kContext + 1);
    std::vector<Segment> step;
    for (const KvView& view : batch.views) {
      const Segment fill{.tokens = std::span(tokens).first(kContext), .kv = view};
      transformer.forward(std::span(&fill, 1));
      step.push_back({.tokens = std::span(tokens).last(1),
                      .position = Tokens(kContext),
                      .kv = view,
                      .logits_rows = 1});
    }
    const Median median = measure(15, [&](int) { transformer.forward(step); });
    const double tokens_per_second = static_cast<double>(count) / median.seconds;
    fmt::print(
        "decode batch {:>2}, context {}: {:>6.0f} tokens/s (spread {:.0f}%), {:.0f}% of "
        "memory bandwidth, {:.0f}% of peak\n",
        count, kContext, tokens_per_second, 100 * median.spread,
        100 * work.bytes / median.seconds / bandwidth,
        100 * work.operations * tokens_per_second / peak);
  }
}

int fail(std::string_view message) {
  fmt::print(stderr, "engine_bench: {}\n", message);
  return 1;
}

int run(std::span<const std::string_view> arguments) {
  const std::string_view mode = arguments.empty() ? "" : arguments[0];
  if (mode != "linear" && mode != "model")
    return fail("say `linear [KERNELS]` or `model PATH [KERNELS [THREADS]]`");
  const std::size_t at = mode == "linear" ? 1 : 2;
  const auto kernels = select_kernels(arguments.size() > at ? arguments[at] : "auto");
  if (!kernels) return fail(kernels.error().message);
  if (mode == "linear") {
    bench_linear(**kernels);
    return 0;
  }
  if (arguments.size() < 2) return fail("model: which PATH?");
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  if (arguments.size() > 3) {
    const std::string_view text = arguments[3];
    std::from_chars(text.data(), text.data() + text.size(), threads);
    if (threads < 1) return fail("THREADS must be a number from 1");
  }
  const auto checkpoint = model::Checkpoint::open(std::filesystem::path(arguments[1]));
  if (!checkpoint) return fail(checkpoint.error().message);
  const auto weights = Weights::in_memory(**checkpoint);
  if (!weights) return fail(weights.error().message);
  bench_model(*weights, **kernels, threads);
  return 0;
}

}  // namespace
}  // namespace pd::engine::bench

int main(int count, char** values) {
  const std::vector<std::string_view> arguments(values + 1, values + count);
  return pd::engine::bench::run(arguments);
}
