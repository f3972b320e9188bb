// Where a token's K and V lie in a prompt's contiguous range on P and in the paged pool on D.
//   P: one range per prompt   [layer][K|V][token][kv_head][head_dim]
//   D: per layer, K and V     [block][kv_head][token_in_block][head_dim]
// Offsets follow from the layout alone. Two sides may pair only if their layouts are equal (G31).
#pragma once

#include <compare>
#include <cstdint>

#include "base/check.h"
#include "base/units.h"

namespace pd::protocol {

enum class KvDType : std::uint8_t { kF32 = 0, kBF16 = 1 };

constexpr std::int64_t size_of(KvDType dtype) { return dtype == KvDType::kF32 ? 4 : 2; }

struct KvLayout {
  KvDType dtype = KvDType::kBF16;
  std::uint16_t layers = 0;
  std::uint16_t kv_heads = 0;
  std::uint16_t head_dim = 0;
  std::uint16_t block_tokens = 16;   // of D's pool
  std::uint64_t weights_digest = 0;  // KV of other weights is another language
  auto operator<=>(const KvLayout&) const = default;

  constexpr Bytes row() const {
    return Bytes(std::int64_t{kv_heads} * head_dim * size_of(dtype));
  }  // one token, K or V of one layer
  constexpr Bytes head_row() const { return Bytes(std::int64_t{head_dim} * size_of(dtype)); }
  constexpr Bytes token() const {
    return row() * (2 * std::int64_t{layers});
  }  // one token, everything
  constexpr Bytes block_plane() const {
    return row() * block_tokens;
  }  // one block, K or V of one layer

  // Contiguous range of `length` tokens on P, and the start of K (0) or V (1) of a layer inside it.
  constexpr Bytes range(Tokens length) const { return token() * length.value(); }
  constexpr Bytes plane_offset(int layer, int k_or_v, Tokens length) const {
    return row() * (length.value() * (2 * std::int64_t{layer} + k_or_v));
  }
  std::uint64_t hash() const;
};

}  // namespace pd::protocol
