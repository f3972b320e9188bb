// Attention of every kernel set against a softmax in f64, and against itself however it is cut.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/rng.h"
#include "engine/kernels/kernels_testing.h"
#include "engine/kv_view.h"

namespace pd::engine {
namespace {

struct Shape {
  int head_dim, group, kv_heads;
  std::int64_t context;  // positions before the first query
  std::int64_t tokens;
  std::int64_t window;
  protocol::KvDType dtype;
};

// Queries, keys and values of one layer; rows past the last position are NaN.
class Problem {
 public:
  explicit Problem(const Shape& given) : shape(given) {
    Rng rng(11);
    layout = {.dtype = shape.dtype,
              .layers = 1,
              .kv_heads = static_cast<std::uint16_t>(shape.kv_heads),
              .head_dim = static_cast<std::uint16_t>(shape.head_dim),
              .block_tokens = 16};
    q = random_values(rng, shape.tokens * width());
    capacity = shape.context + shape.tokens + 70;
    memory.assign(static_cast<std::size_t>(layout.range(Tokens(capacity)).value()),
                  std::byte{0xFF});
    const Kernels& reference = **select_kernels("reference");
    for (int plane = 0; plane < 2; ++plane) {
      for (std::int64_t p = 0; p < shape.context + shape.tokens; ++p) {
        for (int head = 0; head < shape.kv_heads; ++head) {
          const std::vector<float> row = random_values(rng, shape.head_dim);
          reference.store_kv(row.data(), shape.head_dim, shape.dtype,
                             view().rows(0, plane, head, p).first);
        }
      }
    }
  }

  KvView view() { return KvView::contiguous(layout, memory.data(), Tokens(capacity)); }
  std::int64_t width() const { return std::int64_t{shape.kv_heads} * shape.group * shape.head_dim; }
  float scale() const { return 1.0F / std::sqrt(static_cast<float>(shape.head_dim)); }

  std::vector<float> run(const Kernels& kernels, std::int64_t tokens_at_once) {
    std::vector<float> out(q.size(), NAN);
    for (std::int64_t t = 0; t < shape.tokens; t += tokens_at_once) {
      for (int head = 0; head < shape.kv_heads; ++head) {
        kernels.attention({.k = view().plane(0, 0),
                           .v = view().plane(0, 1),
                           .kv_dtype = shape.dtype,
                           .kv_head = head,
                           .group = shape.group,
                           .head_dim = shape.head_dim,
                           .q = q.data() + t * width(),
                           .q_stride = width(),
                           .out = out.data() + t * width(),
                           .out_stride = width(),
                           .position = shape.context + t,
                           .tokens = std::min(tokens_at_once, shape.tokens - t),
                           .window = shape.window,
                           .scale = scale()});
      }
    }
    return out;
  }

  double element(int plane, int head, std::int64_t p, int d) {
    const std::byte* row = view().rows(0, plane, head, p).first;
    if (shape.dtype == protocol::KvDType::kF32) return reinterpret_cast<const float*>(row)[d];
    return from_bf16(reinterpret_cast<const std::uint16_t*>(row)[d]);
  }

  const Shape shape;
  protocol::KvLayout layout;
  std::int64_t capacity = 0;
  std::vector<float> q;
  std::vector<std::byte> memory;
};

// One query of one head in f64, and the largest error of its scores in f32: head_dim products and
// sums, and the scale.
struct Exact {
  std::vector<double> out;
  std::vector<double> magnitude;  // sum of weight * |value|
  double score_error = 0.0;
  std::int64_t positions = 0;
};

Exact exact(Problem& problem, std::int64_t token, int head) {
  const Shape& shape = problem.shape;
  const float* q = problem.q.data() + token * problem.width() + head * shape.head_dim;
  const int kv_head = head / shape.group;
  const std::int64_t end = shape.context + token + 1;
  const std::int64_t begin = shape.window > 0 ? std::max<std::int64_t>(0, end - shape.window) : 0;
  Exact result;
  result.positions = end - begin;
  std::vector<double> scores;
  for (std::int64_t p = begin; p < end; ++p) {
    double score = 0.0;
    double magnitude = 0.0;
    for (int d = 0; d < shape.head_dim; ++d) {
      const double product = q[d] * problem.element(0, kv_head, p, d);
      score += product;
      magnitude += std::abs(product);
    }
    scores.push_back(score * problem.scale());
    result.score_error = std::max(
        result.score_error, gamma(2 * shape.head_dim + 1) * magnitude * double{problem.scale()});
  }
  const double maximum = *std::ranges::max_element(scores);
  double sum = 0.0;
  result.out.resize(static_cast<std::size_t>(shape.head_dim));
  result.magnitude.resize(result.out.size());
  for (double& score : scores) sum += score = std::exp(score - maximum);
  for (std::int64_t p = begin; p < end; ++p) {
    for (int d = 0; d < shape.head_dim; ++d) {
      const double share =
          scores[static_cast<std::size_t>(p - begin)] / sum * problem.element(1, kv_head, p, d);
      result.out[static_cast<std::size_t>(d)] += share;
      result.magnitude[static_cast<std::size_t>(d)] += std::abs(share);
    }
  }
  return result;
}

// Weight and sum each err by e^(2 * score error) - 1 (score and maximum), the exponentials by 2
// units in the last place, each block's rescaling by 3 more; then a chain of one product and one
// sum per position, for the output and for the sum.
double relative_bound(const Exact& truth) {
  const std::int64_t blocks = truth.positions / kAttentionBlock + 2;
  return 2 * std::expm1(2 * truth.score_error) + gamma(4 * truth.positions + 8 * blocks + 16);
}

std::vector<Shape> shapes() {
  using protocol::KvDType;
  std::vector<Shape> out;
  for (const KvDType dtype : {KvDType::kF32, KvDType::kBF16}) {
    for (const int dim : {2, 8, 16, 20, 64, 80, 128, 256})
      out.push_back({dim, 3, 2, 60, 9, 0, dtype});
    for (const int group : {1, 2, 7, 8, 9, 71}) out.push_back({16, group, 2, 40, 30, 0, dtype});
    for (const std::int64_t context : {0, 1, 15, 62, 63, 64, 65, 127, 128, 300})
      out.push_back({32, 2, 1, context, 3, 0, dtype});
    for (const std::int64_t window : {1, 2, 24, 63, 64, 65, 100})
      out.push_back({32, 2, 1, 70, 140, window, dtype});
  }
  return out;
}

TEST(Attention, IsWithinTheBoundOfItsOperands) {
  for (const Shape& shape : shapes()) {
    Problem problem(shape);
    for (const Kernels* kernels : kernels_of_this_machine()) {
      const std::vector<float> out = problem.run(*kernels, shape.tokens);
      for (std::int64_t token = 0; token < shape.tokens; token += 1 + shape.tokens / 5) {
        for (int head = 0; head < shape.kv_heads * shape.group; ++head) {
          const Exact truth = exact(problem, token, head);
          const double relative = relative_bound(truth);
          const float* row = out.data() + token * problem.width() + head * shape.head_dim;
          for (std::size_t d = 0; d < truth.out.size(); ++d) {
            ASSERT_LE(std::abs(row[d] - truth.out[d]), relative * truth.magnitude[d])
                << kernels->name << ": token " << token << ", head " << head << ", element " << d
                << "; head_dim " << shape.head_dim << ", group " << shape.group << ", context "
                << shape.context << ", window " << shape.window;
          }
        }
      }
    }
  }
}

TEST(Attention, GivesTheSameBitsHoweverQueriesAreCut) {
  for (const Shape& shape : shapes()) {
    Problem problem(shape);
    for (const Kernels* kernels : kernels_of_this_machine()) {
      const std::vector<float> whole = problem.run(*kernels, shape.tokens);
      for (const std::int64_t at_once : {1, 5, 64}) {
        ASSERT_TRUE(same_bits(whole, problem.run(*kernels, at_once)))
            << kernels->name << ", " << at_once << " at once, head_dim " << shape.head_dim
            << ", group " << shape.group << ", context " << shape.context << ", window "
            << shape.window;
      }
    }
  }
}

// A score that rises by blocks makes the maximum change in each; one that falls never again.
TEST(Attention, KeepsItsBoundWhereTheMaximumMoves) {
  for (const float slope : {-0.5F, 0.5F, 40.0F}) {
    Problem problem({16, 1, 1, 400, 1, 0, protocol::KvDType::kF32});
    std::fill(problem.q.begin(), problem.q.end(), 1.0F);
    for (std::int64_t p = 0; p < 401; ++p) {
      auto* row = reinterpret_cast<float*>(problem.view().rows(0, 0, 0, p).first);
      std::fill_n(row, 16, slope * static_cast<float>(p) / 16);
    }
    const Exact truth = exact(problem, 0, 0);
    for (const Kernels* kernels : kernels_of_this_machine()) {
      const std::vector<float> out = problem.run(*kernels, 1);
      for (std::size_t d = 0; d < truth.out.size(); ++d) {
        EXPECT_LE(std::abs(out[d] - truth.out[d]), relative_bound(truth) * truth.magnitude[d])
            << kernels->name << ", slope " << slope;
      }
    }
  }
}

TEST(KvView, PlaneAndRowsNameTheSameBytes) {
  const protocol::KvLayout layout{.dtype = protocol::KvDType::kBF16,
                                  .layers = 2,
                                  .kv_heads = 3,
                                  .head_dim = 8,
                                  .block_tokens = 5};
  std::vector<std::byte> memory(static_cast<std::size_t>(layout.range(Tokens(20)).value()));
  std::vector<std::byte*> planes;
  for (int i = 0; i < 4; ++i)
    planes.push_back(memory.data() + 4 * i * layout.block_plane().value());
  const std::vector<BlockIndex> table = {BlockIndex(2), BlockIndex(0), BlockIndex(3)};
  for (const KvView& view : {KvView::contiguous(layout, memory.data(), Tokens(15)),
                             KvView::paged(layout, planes, table)}) {
    for (int layer = 0; layer < 2; ++layer) {
      for (int k_or_v = 0; k_or_v < 2; ++k_or_v) {
        const KvPlane plane = view.plane(layer, k_or_v);
        for (int head = 0; head < 3; ++head) {
          for (std::int64_t p = 0; p < 15; ++p) {
            const std::byte* at = plane.base + head * plane.head_bytes;
            at += plane.table == nullptr ? p * plane.token_bytes
                                         : plane.table[p / plane.block_tokens] * plane.block_bytes +
                                               p % plane.block_tokens * plane.token_bytes;
            EXPECT_EQ(at, view.rows(layer, k_or_v, head, p).first);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace pd::engine
