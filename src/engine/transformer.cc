#include "engine/transformer.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>

#include "base/check.h"
#include "engine/rounding.h"

namespace pd::engine {
namespace {

// What one thread takes at a time. None of it changes a result.
constexpr std::int64_t kLinearTiles = 4;      // columns of a linear operator, in tiles, at most
constexpr std::int64_t kLinearRows = 96;      // and its rows: whole register blocks
constexpr std::int64_t kRowsPerItem = 8;      // rows of an elementwise operator
constexpr std::int64_t kQueriesPerItem = 16;  // query positions of one KV head

// Rows of f32 on cache lines, zero from the start: columns past `width` stay zero, which linear()
// relies on for odd widths.
class RowBuffer {
 public:
  RowBuffer() = default;
  RowBuffer(std::int64_t rows, std::int64_t width) : stride_(round_up(width, 16)) {
    const auto bytes = static_cast<std::size_t>(rows * stride_) * sizeof(float);
    memory_.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
    CHECK(memory_ != nullptr);
    std::fill_n(memory_.get(), rows * stride_, 0.0F);
  }
  float* row(std::int64_t index) const { return memory_.get() + index * stride_; }
  std::int64_t stride() const { return stride_; }

 private:
  struct Free {
    void operator()(float* memory) const { std::free(memory); }
  };
  std::unique_ptr<float[], Free> memory_;
  std::int64_t stride_ = 0;
};

// One row of the step: a token, its place in its sequence, and where its K and V go.
struct Row {
  TokenId token = 0;
  std::int64_t position = 0;
  std::int32_t segment = 0;
};

// The queries of consecutive positions of one segment under one KV head: what a thread takes.
struct AttentionItem {
  std::int32_t segment = 0;
  std::int32_t kv_head = 0;
  std::int64_t row = 0;  // of the first query, in the step
  std::int64_t tokens = 0;
};

}  // namespace

protocol::KvLayout kv_layout(const model::ModelConfig& config, WeightType type,
                             const Kernels& kernels, std::uint16_t block_tokens) {
  return {.dtype = kernels.kv_dtype(type),
          .layers = static_cast<std::uint16_t>(config.layers),
          .kv_heads = static_cast<std::uint16_t>(config.kv_heads),
          .head_dim = static_cast<std::uint16_t>(config.head_dim),
          .block_tokens = block_tokens,
          .weights_digest = 0};
}

protocol::KvLayout kv_layout(const Weights& weights, const Kernels& kernels,
                             std::uint16_t block_tokens) {
  protocol::KvLayout layout = kv_layout(weights.config(), weights.type(), kernels, block_tokens);
  layout.weights_digest = weights.digest();
  return layout;
}

struct Transformer::Impl {
  Impl(const Weights& weights_in, const Kernels& kernels_in, ThreadPool& pool_in,
       std::int32_t rows_max_in)
      : weights(weights_in),
        config(weights_in.config()),
        kernels(kernels_in),
        pool(pool_in),
        rows_max(rows_max_in),
        rounds(kernels_in.rounds_activations(weights_in.type())),
        frequencies(model::rope_frequencies(config)) {
    CHECK(rows_max >= 1);
    const std::int64_t q_width = std::int64_t{config.heads} * config.head_dim;
    const std::int64_t kv_width = std::int64_t{config.kv_heads} * config.head_dim;
    residual = RowBuffer(rows_max, config.hidden);
    normed = RowBuffer(rows_max, config.hidden);
    qkv = RowBuffer(rows_max, q_width + 2 * kv_width);
    attended = RowBuffer(rows_max, q_width);
    gate_up = RowBuffer(rows_max, 2 * std::int64_t{config.intermediate});
    activated = RowBuffer(rows_max, config.intermediate);
    delta = RowBuffer(rows_max, config.hidden);
    cosines = RowBuffer(rows_max, config.head_dim / 2);
    sines = RowBuffer(rows_max, config.head_dim / 2);
    if (rounds) {
      const std::int64_t widest =
          std::max({std::int64_t{config.hidden}, q_width, std::int64_t{config.intermediate}});
      rounded = RowBuffer(rows_max, (widest + 1) / 2);
    }
  }

  // A step's life: begin, embed, every layer, the head.
  void begin(std::span<const Segment> batch);
  void embed();
  void layer(int index);
  std::span<const float> head();

  // Calls body(row) for every row of the step, on all threads.
  template <typename Body>
  void for_rows(const Body& body) {
    const std::int64_t count = row_count();
    const std::int64_t items = ceil_div(count, kRowsPerItem);
    pool.parallel_for(static_cast<std::size_t>(items), [&](std::size_t item) {
      const std::int64_t begin = static_cast<std::int64_t>(item) * kRowsPerItem;
      const std::int64_t end = std::min(begin + kRowsPerItem, count);
      for (std::int64_t row = begin; row < end; ++row) body(row);
    });
  }

  // Row `index` of what linear() reads: `x` itself, or its bf16 image.
  void ready(const float* x, std::int64_t width, std::int64_t index) {
    if (rounds)
      kernels.to_bf16(x, width + width % 2, reinterpret_cast<std::uint16_t*>(rounded.row(index)));
  }
  void linear(const RowBuffer& x, const Matrix& w, const float* bias, std::int64_t rows, float* out,
              std::int64_t out_stride);
  void rotate_and_store(int layer_index, std::int64_t row);
  void attention(int layer_index);

  std::int64_t row_count() const { return static_cast<std::int64_t>(step.size()); }

  const Weights& weights;
  const model::ModelConfig& config;
  const Kernels& kernels;
  ThreadPool& pool;
  const std::int32_t rows_max;
  const bool rounds;
  const std::vector<float> frequencies;

  std::span<const Segment> segments;
  std::vector<Row> step;
  std::vector<AttentionItem> attention_items;
  RowBuffer residual, normed, qkv, attended, gate_up, activated, delta, rounded, cosines, sines;
  std::vector<float> logits;
};

void Transformer::Impl::begin(std::span<const Segment> batch) {
  segments = batch;
  step.clear();
  attention_items.clear();
  for (std::size_t s = 0; s < batch.size(); ++s) {
    const Segment& segment = batch[s];
    const auto tokens = static_cast<std::int64_t>(segment.tokens.size());
    const std::int64_t first = row_count();
    CHECK(tokens >= 1);
    CHECK(segment.position.value() + tokens <= segment.kv.capacity().value());
    CHECK(segment.logits_rows >= 0);
    CHECK(segment.logits_rows <= tokens);
    for (std::int64_t t = 0; t < tokens; ++t) {
      const TokenId token = segment.tokens[static_cast<std::size_t>(t)];
      CHECK(token >= 0);
      CHECK(token < config.vocab);
      step.push_back({token, segment.position.value() + t, static_cast<std::int32_t>(s)});
    }
    for (std::int64_t t = 0; t < tokens; t += kQueriesPerItem) {
      for (int head = 0; head < config.kv_heads; ++head) {
        attention_items.push_back(
            {static_cast<std::int32_t>(s), head, first + t, std::min(kQueriesPerItem, tokens - t)});
      }
    }
  }
  CHECK(row_count() <= rows_max);
}

void Transformer::Impl::embed() {
  for_rows([&](std::int64_t row) {
    const Row& at = step[static_cast<std::size_t>(row)];
    kernels.embed(weights.embedding(), at.token, residual.row(row));
    // The angle is rounded to f32 before its cosine is taken, as models are trained.
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
      const float angle = static_cast<float>(at.position) * frequencies[i];
      cosines.row(row)[i] = static_cast<float>(std::cos(double{angle}));
      sines.row(row)[i] = static_cast<float>(std::sin(double{angle}));
    }
  });
}

void Transformer::Impl::linear(const RowBuffer& x, const Matrix& w, const float* bias,
                               std::int64_t rows, float* out, std::int64_t out_stride) {
  const RowBuffer& source = rounds ? rounded : x;
  const std::int64_t tiles = ceil_div(w.rows, kTileRows);
  const std::int64_t chunks = ceil_div(rows, kLinearRows);
  // Three items a thread even out what each gets; narrower items read x more often.
  std::int64_t width = kLinearTiles;
  while (width > 1 && ceil_div(tiles, width) * chunks < 3 * pool.threads()) width /= 2;
  const std::int64_t items = ceil_div(tiles, width) * chunks;
  pool.parallel_for(static_cast<std::size_t>(items), [&](std::size_t item) {
    // Neighbouring items share weights, which then come from the cache.
    const std::int64_t tile = static_cast<std::int64_t>(item) / chunks * width;
    const std::int64_t row = static_cast<std::int64_t>(item) % chunks * kLinearRows;
    const LinearArgs args{.x = source.row(row),
                          .x_stride = source.stride() * static_cast<std::int64_t>(sizeof(float)),
                          .w = w,
                          .bias = bias,
                          .out = out + row * out_stride,
                          .out_stride = out_stride,
                          .rows = std::min(kLinearRows, rows - row)};
    kernels.linear(args, tile, std::min(tile + width, tiles));
  });
}

// Norms and rotates q and k of one row, and writes its k and v into the cache.
void Transformer::Impl::rotate_and_store(int layer_index, std::int64_t row) {
  const LayerWeights& w = weights.layer(layer_index);
  const Row& at = step[static_cast<std::size_t>(row)];
  const std::int64_t dim = config.head_dim;
  float* q = qkv.row(row);
  float* k = q + config.heads * dim;
  const float* v = k + config.kv_heads * dim;
  if (config.qk_norm) {
    for (int head = 0; head < config.heads; ++head)
      kernels.rms_norm(q + head * dim, w.q_norm, config.norm_eps, dim, q + head * dim);
    for (int head = 0; head < config.kv_heads; ++head)
      kernels.rms_norm(k + head * dim, w.k_norm, config.norm_eps, dim, k + head * dim);
  }
  kernels.rope(q, cosines.row(row), sines.row(row), config.head_dim, config.heads);
  kernels.rope(k, cosines.row(row), sines.row(row), config.head_dim, config.kv_heads);
  const KvView& kv = segments[static_cast<std::size_t>(at.segment)].kv;
  const protocol::KvDType dtype = kv.layout().dtype;
  for (int head = 0; head < config.kv_heads; ++head) {
    kernels.store_kv(k + head * dim, dim, dtype, kv.rows(layer_index, 0, head, at.position).first);
    kernels.store_kv(v + head * dim, dim, dtype, kv.rows(layer_index, 1, head, at.position).first);
  }
}

void Transformer::Impl::attention(int layer_index) {
  pool.parallel_for(attention_items.size(), [&](std::size_t index) {
    const AttentionItem& item = attention_items[index];
    const KvView& kv = segments[static_cast<std::size_t>(item.segment)].kv;
    kernels.attention({.k = kv.plane(layer_index, 0),
                       .v = kv.plane(layer_index, 1),
                       .kv_dtype = kv.layout().dtype,
                       .kv_head = item.kv_head,
                       .group = config.heads / config.kv_heads,
                       .head_dim = config.head_dim,
                       .q = qkv.row(item.row),
                       .q_stride = qkv.stride(),
                       .out = attended.row(item.row),
                       .out_stride = attended.stride(),
                       .position = step[static_cast<std::size_t>(item.row)].position,
                       .tokens = item.tokens,
                       .window = config.sliding_window ? config.sliding_window->value() : 0,
                       .scale = 1.0F / std::sqrt(static_cast<float>(config.head_dim))});
  });
}

void Transformer::Impl::layer(int index) {
  const LayerWeights& w = weights.layer(index);
  const std::int64_t rows = row_count();
  const std::int64_t hidden = config.hidden;
  const std::int64_t inner = config.intermediate;

  for_rows([&](std::int64_t row) {
    kernels.rms_norm(residual.row(row), w.attention_norm, config.norm_eps, hidden, normed.row(row));
    ready(normed.row(row), hidden, row);
  });
  linear(normed, w.qkv, w.qkv_bias, rows, qkv.row(0), qkv.stride());
  for_rows([&](std::int64_t row) { rotate_and_store(index, row); });
  attention(index);
  if (rounds) for_rows([&](std::int64_t row) { ready(attended.row(row), w.output.columns, row); });
  linear(attended, w.output, nullptr, rows, delta.row(0), delta.stride());
  for_rows([&](std::int64_t row) {
    kernels.add(delta.row(row), hidden, residual.row(row));
    kernels.rms_norm(residual.row(row), w.mlp_norm, config.norm_eps, hidden, normed.row(row));
    ready(normed.row(row), hidden, row);
  });
  linear(normed, w.gate_up, nullptr, rows, gate_up.row(0), gate_up.stride());
  for_rows([&](std::int64_t row) {
    const float* gate = gate_up.row(row);
    kernels.silu_mul(gate, gate + inner, inner, activated.row(row));
    ready(activated.row(row), inner, row);
  });
  linear(activated, w.down, nullptr, rows, delta.row(0), delta.stride());
  for_rows([&](std::int64_t row) { kernels.add(delta.row(row), hidden, residual.row(row)); });
}

// The last norm and the output matrix, for the rows that were asked for, moved to the front.
std::span<const float> Transformer::Impl::head() {
  std::int64_t wanted = 0;
  std::int64_t row = 0;
  for (const Segment& segment : segments) {
    row += static_cast<std::int64_t>(segment.tokens.size());
    for (std::int64_t r = row - segment.logits_rows; r < row; ++r, ++wanted) {
      kernels.rms_norm(residual.row(r), weights.final_norm(), config.norm_eps, config.hidden,
                       normed.row(wanted));
      ready(normed.row(wanted), config.hidden, wanted);
    }
  }
  if (wanted == 0) return {};
  const auto size = static_cast<std::size_t>(wanted * config.vocab);
  if (logits.size() < size) logits.resize(size);
  linear(normed, weights.head(), nullptr, wanted, logits.data(), config.vocab);
  return std::span(logits).first(size);
}

Transformer::Transformer(const Weights& weights, const Kernels& kernels, ThreadPool& pool,
                         std::int32_t rows_max)
    : impl_(std::make_unique<Impl>(weights, kernels, pool, rows_max)) {}

Transformer::~Transformer() = default;

std::span<const float> Transformer::forward(std::span<const Segment> segments) {
  impl_->begin(segments);
  impl_->embed();
  for (int index = 0; index < impl_->config.layers; ++index) impl_->layer(index);
  return impl_->head();
}

std::int32_t Transformer::vocab() const { return impl_->config.vocab; }
std::int32_t Transformer::rows_max() const { return impl_->rows_max; }

}  // namespace pd::engine
