// The inner loop of every product: some rows of x times some tiles of 16 columns, accumulated in
// registers over a range of k. Each output element is one chain of fused multiply-adds with k
// ascending; a range that is continued in a later call goes on from the stored f32, which loses
// nothing. Hence no blocking of rows, tiles or k changes a bit.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pd::engine {
namespace {

inline constexpr int kBlockRows = 6;

struct BlockArgs {
  const void* x[kBlockRows];  // from k = 0
  float* out[kBlockRows];     // first column of the first tile
  const std::byte* w = nullptr;
  std::int64_t tile_bytes = 0;
  std::int64_t k_begin = 0;  // in units of the weights' step
  std::int64_t k_end = 0;
  std::int64_t columns = 0;     // of out that exist: 16 per tile, less in the last one
  bool fresh = true;            // start at 0, not at what `out` holds
  const float* bias = nullptr;  // added at the end; nullptr: none
};

// acc[r][t] += x(r) * w(t) for all r and t. Where registers are many, the broadcasts of x are kept
// for all tiles; where they are few, they are made again for each.
template <class S, int R, int T, class X, class W>
[[gnu::always_inline]] inline void multiply_add(typename S::F (&acc)[R][T], const X& x,
                                                const W& w) {
  if constexpr (S::kKeepsBroadcasts) {
    typename S::F kept[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) kept[r] = x(r);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const typename S::F weights = w(t);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r][t] = S::fma(kept[r], weights, acc[r][t]);
    }
  } else {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const typename S::F weights = w(t);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r][t] = S::fma(x(r), weights, acc[r][t]);
    }
  }
}

// What is multiplied in one step of k, and what it is stored as.
struct F32Weights {  // x f32, w [k][16] f32
  static constexpr std::int64_t kStep = 1;
  template <class S, int R, int T>
  [[gnu::always_inline]] static inline void step(const BlockArgs& args, std::int64_t k,
                                                 typename S::F (&acc)[R][T]) {
    multiply_add<S>(
        acc, [&](int r) { return S::set1(static_cast<const float*>(args.x[r])[k]); },
        [&](int t) {
          return S::load(reinterpret_cast<const float*>(args.w + t * args.tile_bytes + k * 64));
        });
  }
};

struct WidenedBf16Weights {  // x f32, w [k / 2][16][2] bf16, widened on the way
  static constexpr std::int64_t kStep = 2;
  template <class S, int R, int T>
  [[gnu::always_inline]] static inline void step(const BlockArgs& args, std::int64_t k,
                                                 typename S::F (&acc)[R][T]) {
    multiply_add<S>(
        acc, [&](int r) { return S::set1(static_cast<const float*>(args.x[r])[2 * k]); },
        [&](int t) { return S::load_even(args.w + t * args.tile_bytes + k * 64); });
    multiply_add<S>(
        acc, [&](int r) { return S::set1(static_cast<const float*>(args.x[r])[2 * k + 1]); },
        [&](int t) { return S::load_odd(args.w + t * args.tile_bytes + k * 64); });
  }
};

template <class S, class W, int R, int T>
void register_block(const BlockArgs& given) {
  // A local copy: stores to `out` cannot change it, so its members stay in registers.
  const BlockArgs args = given;
  typename S::F acc[R][T];
  const bool whole = args.columns >= 16 * T;
  const std::int64_t rest = args.columns - 16 * (T - 1);  // columns of the last tile
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const float* from = args.out[r] + 16 * t;
      acc[r][t] = args.fresh           ? S::zero()
                  : whole || t + 1 < T ? S::load(from)
                                       : S::load_n(from, rest);
    }
  }
  for (std::int64_t k = args.k_begin; k < args.k_end; ++k) W::template step<S, R, T>(args, k, acc);
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    const bool full = whole || t + 1 < T;
    typename S::F bias = S::zero();
    if (args.bias != nullptr)
      bias = full ? S::load(args.bias + 16 * t) : S::load_n(args.bias + 16 * t, rest);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const typename S::F value = args.bias != nullptr ? S::add(acc[r][t], bias) : acc[r][t];
      if (full) {
        S::store(args.out[r] + 16 * t, value);
      } else {
        S::store_n(args.out[r] + 16 * t, value, rest);
      }
    }
  }
}

// As many blocks of T tiles as there are; moves `args` past them.
template <class S, class W, int R, int T>
void take_tiles(BlockArgs& args, std::int64_t& tiles) {
  for (; tiles >= T; tiles -= T) {
    register_block<S, W, R, T>(args);
    args.w += T * args.tile_bytes;
    args.columns -= 16 * T;
    if (args.bias != nullptr) args.bias += 16 * T;
    for (int r = 0; r < R; ++r) args.out[r] += 16 * T;
  }
}

template <class S, class W, int R>
void all_tiles(BlockArgs args, std::int64_t tiles) {
  constexpr int kTiles = S::tiles(R);
  take_tiles<S, W, R, kTiles>(args, tiles);
  if constexpr (kTiles > 2) take_tiles<S, W, R, kTiles / 2>(args, tiles);
  if constexpr (kTiles > 1) take_tiles<S, W, R, 1>(args, tiles);
}

// `rows` (1 to kBlockRows) rows times `tiles` tiles.
template <class S, class W>
void multiply(const BlockArgs& args, int rows, std::int64_t tiles) {
  static_assert(S::kRows == kBlockRows);
  switch (rows) {
    case 1:
      return all_tiles<S, W, 1>(args, tiles);
    case 2:
      return all_tiles<S, W, 2>(args, tiles);
    case 3:
      return all_tiles<S, W, 3>(args, tiles);
    case 4:
      return all_tiles<S, W, 4>(args, tiles);
    case 5:
      return all_tiles<S, W, 5>(args, tiles);
    default:
      return all_tiles<S, W, 6>(args, tiles);
  }
}

}  // namespace
}  // namespace pd::engine
