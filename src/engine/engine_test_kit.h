// What the engines' tests share: a naive generator to compare with, and the handoff in one process.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "engine/decode_engine.h"
#include "engine/prefill_engine.h"

namespace pd::engine::test {

inline policy::Holder holder(std::uint64_t n, std::uint32_t attempt = 1) {
  return {RequestId{7, n}, attempt};
}

// Owns a prompt's contiguous KV. Filled with a pattern: nothing may rely on zeros.
class OwnedRange {
 public:
  OwnedRange(const protocol::KvLayout& layout, Tokens capacity)
      : bytes_(static_cast<std::size_t>(layout.range(capacity).value()), std::byte{0xA5}),
        capacity_(capacity) {}
  KvRange view() { return {bytes_, capacity_}; }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
  Tokens capacity_;
};

// Position by position through the views: independent of any scatter's arithmetic.
inline void hand_over(const protocol::KvLayout& layout, const KvRange& from, const KvPool& pool,
                      std::span<const BlockIndex> table, Tokens length) {
  const KvView source = KvView::contiguous(layout, from.memory.data(), from.capacity);
  const KvView target = KvView::paged(pool.layout(), pool.planes(), table);
  const auto bytes = static_cast<std::size_t>(layout.head_row().value());
  for (int layer = 0; layer < layout.layers; ++layer) {
    for (int k_or_v = 0; k_or_v < 2; ++k_or_v) {
      for (int head = 0; head < layout.kv_heads; ++head) {
        for (std::int64_t position = 0; position < length.value(); ++position) {
          std::memcpy(target.rows(layer, k_or_v, head, position).first,
                      source.rows(layer, k_or_v, head, position).first, bytes);
        }
      }
    }
  }
}

// One pass per token over the whole sequence: no chunk, no batch, no cache, no paging.
inline std::vector<TokenId> generate_naively(ForwardPass& model, const protocol::KvLayout& layout,
                                             const std::vector<TokenId>& prompt,
                                             const protocol::SamplingParams& params,
                                             std::span<const TokenId> eos = {}) {
  std::vector<TokenId> output;
  while (static_cast<std::int64_t>(output.size()) < params.max_tokens.value()) {
    std::vector<TokenId> all = prompt;
    all.insert(all.end(), output.begin(), output.end());
    const Tokens length(static_cast<std::int64_t>(all.size()));
    OwnedRange range(layout, length);
    const Segment segment{all, Tokens(0),
                          KvView::contiguous(layout, range.view().memory.data(), length), 1};
    const auto token = sample(model.forward(std::span(&segment, 1)), params, {prompt, output}, eos);
    EXPECT_TRUE(token.has_value());
    output.push_back(token->id);
  }
  return output;
}

}  // namespace pd::engine::test
