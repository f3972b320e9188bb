// The arithmetic of the forward pass as tables of functions, one table per instruction set, chosen
// once at start-up. All tables share the packed weights and the contract below; `reference` is the
// one that anyone can check by eye, the others agree with it within the bounds of docs/numerics.md.
//
// Exactness: every output element is reduced in one fixed order, which depends on the table and on
// the element's own operands only: not on how many rows or columns a call covers, nor on which call
// covers them. Callers may therefore split rows, tiles and heads over threads as they like.
//
// Types here are plain: the files compiled for one instruction set must not instantiate inline
// functions of the standard library or of this project, because the linker could pick their copy
// for everybody (tests/check_isa_objects.cmake).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "protocol/kv_layout.h"

namespace pd::engine {

enum class WeightType : std::uint8_t { kF32 = 0, kBF16 = 1 };

// Output features that lie side by side in a packed matrix: one AVX-512 register of f32.
inline constexpr int kTileRows = 16;
// Positions that attention takes together; blocks start at multiples of it.
inline constexpr int kAttentionBlock = 64;
// Largest head that attention's scratch on the stack holds (64 KiB of transposed keys).
inline constexpr int kHeadDimMax = 256;

// A weight matrix [rows = output features, columns = input features], packed:
//   kF32    [rows / 16][columns][16]
//   kBF16   [rows / 16][columns / 2][16][2]   the pairs that vdpbf16ps takes
// Rows and columns are rounded up with zeros. 64-byte aligned.
struct Matrix {
  const std::byte* data = nullptr;
  WeightType type = WeightType::kF32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

// out[r][n] = sum over k of x[r][k] * w[n][k], k ascending in one chain, + bias[n] if there is one.
struct LinearArgs {
  // f32 or, where Kernels::rounds_activations(w.type), bf16; rows padded with zeros to an even K.
  const void* x = nullptr;
  std::int64_t x_stride = 0;  // bytes
  Matrix w;
  const float* bias = nullptr;  // [w.rows] or nullptr
  float* out = nullptr;         // [rows][w.rows]; must not alias x
  std::int64_t out_stride = 0;  // floats
  std::int64_t rows = 0;
};

// K or V of one layer of one sequence, wherever it lies (KvView::plane). The row of `position` and
// `head` is at base + head * head_bytes + position * token_bytes; with a table, base is first moved
// by table[position / block_tokens] * block_bytes and position taken modulo block_tokens.
struct KvPlane {
  const std::byte* base = nullptr;
  const std::uint32_t* table = nullptr;  // nullptr: contiguous
  std::int64_t block_tokens = 0;
  std::int64_t block_bytes = 0;
  std::int64_t head_bytes = 0;
  std::int64_t token_bytes = 0;
};

// Causal attention of `tokens` consecutive positions and all query heads of one KV head. For a
// query at position p: the positions max(0, p - window + 1) .. p in blocks of kAttentionBlock,
// ascending, with an online softmax: scores of the block (dot products with d ascending, times
// `scale`), the new maximum, the old sum and output rescaled, then the block's share added with the
// position ascending. Rows that a query must not see are never read.
// Source: Milakov and Gimelshein 2018 (online softmax); Dao 2023, algorithm 1.
struct AttentionArgs {
  KvPlane k, v;
  protocol::KvDType kv_dtype = protocol::KvDType::kF32;
  int kv_head = 0;
  int group = 0;              // query heads per KV head: kv_head * group .. + group
  int head_dim = 0;           // <= kHeadDimMax
  const float* q = nullptr;   // [tokens][heads][head_dim], rotated
  std::int64_t q_stride = 0;  // floats from token to token
  float* out = nullptr;       // as q; must not alias it
  std::int64_t out_stride = 0;
  std::int64_t position = 0;  // of the first token
  std::int64_t tokens = 0;
  std::int64_t window = 0;  // 0: all positions
  float scale = 1.0F;
};

struct Kernels {
  std::string_view name;
  // True for `reference`: activations, K and V stay f32 whatever the weights' type.
  bool keeps_f32 = false;
  // The instruction set multiplies bf16 pairs: linear() takes bf16 activations for bf16 weights.
  bool multiplies_bf16 = false;

  bool rounds_activations(WeightType type) const {
    return multiplies_bf16 && type == WeightType::kBF16;
  }
  // What K and V should be stored as next to weights of `type`. attention() and store_kv() of every
  // table take both.
  protocol::KvDType kv_dtype(WeightType type) const {
    return keeps_f32 || type == WeightType::kF32 ? protocol::KvDType::kF32
                                                 : protocol::KvDType::kBF16;
  }

  // The columns of tiles [tile_begin, tile_end) of w, for all rows.
  void (*linear)(const LinearArgs& args, std::int64_t tile_begin, std::int64_t tile_end) = nullptr;
  void (*attention)(const AttentionArgs& args) = nullptr;
  // out = weight * (x / sqrt(mean(x^2) + eps)); out may be x.
  void (*rms_norm)(const float* x, const float* weight, float eps, std::int64_t size,
                   float* out) = nullptr;
  // Rotates `heads` heads in place: pair (i, i + head_dim / 2) by the angle whose cosine and sine
  // are cos[i], sin[i]. Source: Su et al. 2021; pairing as in Hugging Face checkpoints.
  void (*rope)(float* x, const float* cos, const float* sin, int head_dim, int heads) = nullptr;
  // out = gate / (1 + exp(-gate)) * up; out may be gate.
  void (*silu_mul)(const float* gate, const float* up, std::int64_t size, float* out) = nullptr;
  // inout += x
  void (*add)(const float* x, std::int64_t size, float* inout) = nullptr;
  // Row `row` of a packed matrix, widened.
  void (*embed)(const Matrix& table, std::int64_t row, float* out) = nullptr;
  // One head's row of K or V into the cache; bf16 rounds to nearest even.
  void (*store_kv)(const float* x, std::int64_t size, protocol::KvDType dtype,
                   std::byte* out) = nullptr;
  // Activations as bf16, nearest even; `size` even.
  void (*to_bf16)(const float* x, std::int64_t size, std::uint16_t* out) = nullptr;
};

// "reference", "avx2", "avx512", "avx512_bf16", or "auto": the last of these that this CPU has.
// Errors: kInvalidArgument (no such name; the message lists them), kUnsupported (this CPU or its
// system lacks it; the message lists what it has).
Result<const Kernels*> select_kernels(std::string_view name);

// The names that select_kernels() accepts on this machine, slowest first, separated by ", ".
std::string available_kernels();

}  // namespace pd::engine
