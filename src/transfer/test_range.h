// For tests and benches only: a prompt's range and a pool of blocks, filled at random.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "transfer/kv_range.h"
#include "transfer/pages.h"
#include "transfer/scatter.h"

namespace pd::transfer::test {

// Of the range that transfer_test_peer serves: SmolLM2-135M's.
inline constexpr protocol::KvLayout kTestLayout{
    .layers = 30, .kv_heads = 3, .head_dim = 64, .block_tokens = 16, .weights_digest = 77};
inline constexpr std::size_t kTestRangeOffset = 8192;

inline void fill_random(std::span<std::byte> bytes, std::uint64_t seed) {
  Rng rng(seed);
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    const std::uint64_t word = rng.next();
    std::memcpy(bytes.data() + i, &word, std::min<std::size_t>(8, bytes.size() - i));
  }
}

// A pool with some more blocks than one prompt needs; the prompt has them in no order.
class Pool {
 public:
  Pool(const protocol::KvLayout& layout, Tokens tokens, std::uint64_t seed) : layout_(layout) {
    const std::int64_t needed = blocks_for(tokens, Tokens(layout.block_tokens)).value();
    const std::int64_t blocks = needed + 3;
    pages_ = std::move(*Pages::create(layout.block_plane() * (blocks * 2 * layout.layers)));
    // Planes begin at multiples of 64 where the layout allows it, as the engine's do.
    for (int plane = 0; plane < 2 * layout.layers; ++plane) {
      planes_.push_back(pages_.memory().data() + plane * blocks * layout.block_plane().value());
    }
    fill_random(pages_.memory(), seed);
    for (std::int64_t i = 0; i < blocks; ++i) table_.emplace_back(static_cast<std::uint32_t>(i));
    Rng rng(seed);
    for (std::size_t i = table_.size(); i > 1; --i) std::swap(table_[i - 1], table_[rng.below(i)]);
    table_.resize(static_cast<std::size_t>(needed));
  }
  KvPoolView view() const { return {layout_, planes_}; }
  const std::vector<BlockIndex>& table() const { return table_; }
  std::span<const std::byte> bytes() const { return pages_.memory(); }
  const std::vector<std::byte*>& planes() const { return planes_; }

 private:
  protocol::KvLayout layout_;
  Pages pages_;
  std::vector<std::byte*> planes_;
  std::vector<BlockIndex> table_;
};

// A range with its header, in memory of its own or in a part of an exposed region.
class Range {
 public:
  Range(const protocol::KvLayout& layout, Tokens tokens, std::uint64_t seed)
      : Range(layout, tokens, seed, {}) {}
  Range(const protocol::KvLayout& layout, Tokens tokens, std::uint64_t seed,
        std::span<std::byte> in)
      : layout_(layout), tokens_(tokens) {
    const auto size = static_cast<std::size_t>(range_bytes(layout, tokens).value());
    if (in.empty()) {
      pages_ = std::move(*Pages::create(Bytes(static_cast<std::int64_t>(size))));
      in = pages_.memory();
    }
    bytes_ = in.first(size);
    fill_random(kv(), seed);
    write_range_header(layout_, bytes_, ticket());
  }
  KvRangeTicket ticket() const { return {Epoch(7), {0x1234, 0x5678}, tokens_}; }
  std::span<std::byte> bytes() const { return bytes_; }
  std::span<std::byte> kv() const { return kv_of(layout_, bytes_); }

  // [layer][K|V][token][head][dim] -> per plane [block][head][token in block][dim], word for word.
  void scatter_by_the_definition(const Pool& pool, std::span<std::byte> out) const {
    const auto head_row = static_cast<std::size_t>(layout_.head_row().value());
    std::size_t from = 0;
    for (const std::byte* plane : pool.planes()) {
      for (std::size_t token = 0; token < static_cast<std::size_t>(tokens_.value()); ++token) {
        const std::size_t block = pool.table()[token / layout_.block_tokens].value();
        for (std::size_t head = 0; head < layout_.kv_heads; ++head) {
          const std::size_t row = (block * layout_.kv_heads + head) * layout_.block_tokens +
                                  token % layout_.block_tokens;
          const auto at = static_cast<std::size_t>(plane - pool.bytes().data()) + row * head_row;
          std::memcpy(out.data() + at, kv().data() + from, head_row);
          from += head_row;
        }
      }
    }
  }

 private:
  protocol::KvLayout layout_;
  Tokens tokens_;
  Pages pages_;
  std::span<std::byte> bytes_;
};

}  // namespace pd::transfer::test
