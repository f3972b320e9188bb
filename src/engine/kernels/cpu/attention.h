// Causal attention, block by block, as kernels.h defines it. A block's keys are transposed and its
// values widened once for all queries of the call; scores and outputs are then products with the
// register block of linear(): K as a matrix of 64 columns, V as one of head_dim columns.
#pragma once

#include "engine/kernels/cpu/exponential.h"
#include "engine/kernels/cpu/register_block.h"
#include "engine/kernels/kernels.h"

namespace pd::engine {
namespace {

// Queries that share a block's keys and values: 16 positions of 8 heads.
inline constexpr std::int64_t kQueriesAtOnce = 128;

struct KeyValueBlock {
  alignas(64) float keys[kAttentionBlock * kHeadDimMax];    // [position / 16][d][16]
  alignas(64) float values[kAttentionBlock * kHeadDimMax];  // [d / 16][position][16]
};

// A row that stands for positions outside the block.
alignas(64) inline constexpr float kZeroRow[kHeadDimMax] = {};

inline const std::byte* kv_row(const KvPlane& plane, int head, std::int64_t position) {
  const std::byte* base = plane.base;
  if (plane.table != nullptr) {
    base += plane.table[position / plane.block_tokens] * plane.block_bytes;
    position %= plane.block_tokens;
  }
  return base + head * plane.head_bytes + position * plane.token_bytes;
}

// Asks for a row of the next block, into the second-level cache: rows of 64 to 512 bytes are too
// short for the hardware to see a stream in them, and the first level is full of this block.
inline void prefetch_next(const AttentionArgs& args, const KvPlane& plane, std::int64_t position,
                          std::int64_t end) {
  if (position + kAttentionBlock >= end) return;
  const std::byte* row = kv_row(plane, args.kv_head, position + kAttentionBlock);
  const int bytes = args.head_dim * (args.kv_dtype == protocol::KvDType::kF32 ? 4 : 2);
  for (int at = 0; at < bytes; at += 64) __builtin_prefetch(row + at, 0, 2);
}

// Elements [d, d + n) of a row, n <= 16, zeros after them.
template <class S, protocol::KvDType kDType>
[[gnu::always_inline]] inline typename S::F load_kv(const std::byte* row, int d, int n) {
  if constexpr (kDType == protocol::KvDType::kF32) {
    const float* from = reinterpret_cast<const float*>(row) + d;
    return n == 16 ? S::load(from) : S::load_n(from, n);
  } else {
    const auto* from = reinterpret_cast<const std::uint16_t*>(row) + d;
    return n == 16 ? S::load_bf16(from) : S::load_bf16_n(from, n);
  }
}

// Elements [d, d + n) of sixteen rows as n rows of sixteen. Called with a constant n where it can
// be: the registers of the transposition then stay registers.
template <class S, protocol::KvDType kDType>
[[gnu::always_inline]] inline void transpose_rows(const std::byte* const (&row)[16], int d, int n,
                                                  float* to) {
  typename S::F square[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) square[i] = load_kv<S, kDType>(row[i], d, n);
  S::transpose(square);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    if (i < n) S::store(to + 16 * i, square[i]);
  }
}

// Positions [first, last) of the block that starts at `block`; the call's queries see up to `end`.
template <class S, protocol::KvDType kDType>
void gather_keys(const AttentionArgs& args, std::int64_t block, std::int64_t first,
                 std::int64_t last, std::int64_t end, float* keys) {
  const int whole = args.head_dim / 16 * 16;
  for (std::int64_t tile = (first - block) / 16; 16 * tile < last - block; ++tile) {
    const std::byte* row[16];
    for (int i = 0; i < 16; ++i) {
      const std::int64_t p = block + 16 * tile + i;
      row[i] = first <= p && p < last ? kv_row(args.k, args.kv_head, p)
                                      : reinterpret_cast<const std::byte*>(kZeroRow);
      prefetch_next(args, args.k, p, end);
    }
    float* to = keys + tile * 16 * args.head_dim;
    for (int d = 0; d < whole; d += 16) transpose_rows<S, kDType>(row, d, 16, to + 16 * d);
    if (whole < args.head_dim)
      transpose_rows<S, kDType>(row, whole, args.head_dim - whole, to + 16 * whole);
  }
}

template <class S, protocol::KvDType kDType>
void gather_values(const AttentionArgs& args, std::int64_t block, std::int64_t first,
                   std::int64_t last, std::int64_t end, float* values) {
  const int whole = args.head_dim / 16 * 16;
  for (std::int64_t p = first; p < last; ++p) {
    const std::byte* row = kv_row(args.v, args.kv_head, p);
    prefetch_next(args, args.v, p, end);
    float* to = values + (p - block) * 16;
    for (int d = 0; d < whole; d += 16)
      S::store(to + d * kAttentionBlock, load_kv<S, kDType>(row, d, 16));
    if (whole < args.head_dim) {
      S::store(to + whole * kAttentionBlock, load_kv<S, kDType>(row, whole, args.head_dim - whole));
    }
  }
}

template <class S>
void gather(const AttentionArgs& args, std::int64_t block, std::int64_t first, std::int64_t last,
            std::int64_t end, KeyValueBlock& kv) {
  if (args.kv_dtype == protocol::KvDType::kF32) {
    gather_keys<S, protocol::KvDType::kF32>(args, block, first, last, end, kv.keys);
    gather_values<S, protocol::KvDType::kF32>(args, block, first, last, end, kv.values);
  } else {
    gather_keys<S, protocol::KvDType::kBF16>(args, block, first, last, end, kv.keys);
    gather_values<S, protocol::KvDType::kBF16>(args, block, first, last, end, kv.values);
  }
}

// One query of the call: one head of one token.
struct Query {
  const float* q;
  float* out;
  std::int64_t begin;  // positions that it sees
  std::int64_t end;
  float maximum;
  float sum;
};

inline Query query_at(const AttentionArgs& args, std::int64_t index) {
  const std::int64_t token = index / args.group;
  const std::int64_t head = args.kv_head * std::int64_t{args.group} + index % args.group;
  const std::int64_t end = args.position + token + 1;
  const std::int64_t begin = args.window > 0 && args.window < end ? end - args.window : 0;
  return {.q = args.q + token * args.q_stride + head * args.head_dim,
          .out = args.out + token * args.out_stride + head * args.head_dim,
          .begin = begin,
          .end = end,
          .maximum = -__builtin_inff(),
          .sum = 0.0F};
}

template <class S, class Op>
[[gnu::always_inline]] inline void update_row(float* row, int size, const Op& op) {
  int i = 0;
  for (; i + 16 <= size; i += 16) S::store(row + i, op(S::load(row + i)));
  if (i < size) S::store_n(row + i, op(S::load_n(row + i, size - i)), size - i);
}

// Scores of one block into weights exp(score - maximum), in place; [lo, hi) are the positions that
// the query sees. Rescales what the query has summed up so far.
template <class S>
void soften(Query& query, float* scores, std::int64_t lo, std::int64_t hi, float scale,
            int head_dim) {
  using F = typename S::F;
  const F minus_infinity = S::set1(-__builtin_inff());
  F s[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    s[i] = S::mul(S::load(scores + 16 * i), S::set1(scale));
    s[i] = S::keep(s[i], lo - 16 * i, hi - 16 * i, minus_infinity);
  }
  const float block_maximum = S::maximum(S::max(S::max(s[0], s[1]), S::max(s[2], s[3])));
  const float maximum = block_maximum > query.maximum ? block_maximum : query.maximum;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    s[i] = exponential<S>(S::sub(s[i], S::set1(maximum)));
    S::store(scores + 16 * i, s[i]);
  }
  const float sum = S::sum(S::add(S::add(s[0], s[1]), S::add(s[2], s[3])));
  if (maximum != query.maximum) {  // else the factor is 1
    const F rescale = exponential<S>(S::set1(query.maximum - maximum));
    float factor[16];
    S::store(factor, rescale);
    query.sum *= factor[0];
    update_row<S>(query.out, head_dim, [&](F v) { return S::mul(v, rescale); });
    query.maximum = maximum;
  }
  query.sum += sum;
}

// out += weights [begin, end) times the block's values, for `count` neighbouring queries.
template <class S>
void add_values(const AttentionArgs& args, const KeyValueBlock& kv, Query* queries, int count,
                const float* weights, std::int64_t begin, std::int64_t end) {
  if (begin >= end) return;
  BlockArgs block;
  for (int r = 0; r < count; ++r) {
    block.x[r] = weights + r * kAttentionBlock;
    block.out[r] = queries[r].out;
  }
  block.w = reinterpret_cast<const std::byte*>(kv.values);
  block.tile_bytes = kAttentionBlock * 64;
  block.k_begin = begin;
  block.k_end = end;
  block.columns = args.head_dim;
  block.fresh = false;
  multiply<S, F32Weights>(block, count, (args.head_dim + 15) / 16);
}

// `count` (up to kBlockRows) neighbouring queries against one block that each of them sees.
template <class S>
void attend_block(const AttentionArgs& args, const KeyValueBlock& kv, std::int64_t block_begin,
                  Query* queries, int count) {
  alignas(64) float weights[kBlockRows * kAttentionBlock];
  BlockArgs block;
  for (int r = 0; r < count; ++r) {
    block.x[r] = queries[r].q;
    block.out[r] = weights + r * kAttentionBlock;
  }
  block.w = reinterpret_cast<const std::byte*>(kv.keys);
  block.tile_bytes = args.head_dim * std::int64_t{64};
  block.k_end = args.head_dim;
  block.columns = kAttentionBlock;
  multiply<S, F32Weights>(block, count, kAttentionBlock / 16);

  // Positions that all see are taken together, those before and after by each query alone: the
  // order of every query is the same as if it were the only one.
  std::int64_t lo[kBlockRows], hi[kBlockRows];
  std::int64_t all_lo = 0, all_hi = kAttentionBlock;
  for (int r = 0; r < count; ++r) {
    lo[r] = queries[r].begin > block_begin ? queries[r].begin - block_begin : 0;
    hi[r] = queries[r].end - block_begin;
    if (hi[r] > kAttentionBlock) hi[r] = kAttentionBlock;
    if (lo[r] > all_lo) all_lo = lo[r];
    if (hi[r] < all_hi) all_hi = hi[r];
    soften<S>(queries[r], weights + r * kAttentionBlock, lo[r], hi[r], args.scale, args.head_dim);
  }
  if (all_lo >= all_hi) all_lo = all_hi = kAttentionBlock;
  for (int r = 0; r < count; ++r) {
    const std::int64_t end = all_lo < hi[r] ? all_lo : hi[r];
    add_values<S>(args, kv, queries + r, 1, weights + r * kAttentionBlock, lo[r], end);
  }
  add_values<S>(args, kv, queries, count, weights, all_lo, all_hi);
  for (int r = 0; r < count; ++r)
    add_values<S>(args, kv, queries + r, 1, weights + r * kAttentionBlock, all_hi, hi[r]);
}

template <class S>
void attend(const AttentionArgs& args, std::int64_t index, std::int64_t count) {
  KeyValueBlock kv;
  Query queries[kQueriesAtOnce];
  for (std::int64_t i = 0; i < count; ++i) {
    queries[i] = query_at(args, index + i);
    update_row<S>(queries[i].out, args.head_dim, [](typename S::F) { return S::zero(); });
  }
  // Queries are in order of position, so are the ends of what they see.
  const std::int64_t end = queries[count - 1].end;
  for (std::int64_t block = queries[0].begin / kAttentionBlock * kAttentionBlock; block < end;
       block += kAttentionBlock) {
    std::int64_t from = 0;
    std::int64_t to = count;
    while (queries[from].end <= block) ++from;
    while (queries[to - 1].begin >= block + kAttentionBlock) --to;
    const std::int64_t first = queries[from].begin > block ? queries[from].begin : block;
    const std::int64_t block_end = block + kAttentionBlock;
    const std::int64_t last = queries[to - 1].end < block_end ? queries[to - 1].end : block_end;
    gather<S>(args, block, first, last, end, kv);
    for (; from < to; from += kBlockRows) {
      const std::int64_t rows = to - from < kBlockRows ? to - from : kBlockRows;
      attend_block<S>(args, kv, block, queries + from, static_cast<int>(rows));
    }
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const typename S::F sum = S::set1(queries[i].sum);
    update_row<S>(queries[i].out, args.head_dim, [&](typename S::F v) { return S::div(v, sum); });
  }
}

template <class S>
void attention(const AttentionArgs& args) {
  const std::int64_t queries = args.tokens * args.group;
  for (std::int64_t index = 0; index < queries; index += kQueriesAtOnce) {
    const std::int64_t rest = queries - index;
    attend<S>(args, index, rest < kQueriesAtOnce ? rest : kQueriesAtOnce);
  }
}

}  // namespace
}  // namespace pd::engine
