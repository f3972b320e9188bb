// Which prompt prefixes P still has the KV of: a radix tree whose edges are blocks of tokens, per
// tenant (G30), least recently used out first. Pure; knows no memory: a node's number is the place
// of its block in whatever memory the caller has.
//
// A block is found only below its exact predecessors and by its exact tokens: digests choose the
// bucket, tokens decide.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/units.h"

namespace pd::policy {

struct PrefixIndexStats {
  std::uint64_t inserted = 0;  // blocks
  std::uint64_t evicted = 0;   // blocks
  std::uint64_t acquired = 0;  // blocks; one job may ask several times before it starts
};

class PrefixIndex {
 public:
  // block_tokens >= 1; capacity >= 0 blocks.
  PrefixIndex(Tokens block_tokens, BlockCount capacity);

  // The blocks of the longest known prefix of `tokens`, whole blocks only, pinned: they stay until
  // unpin(). Counts as use.
  std::vector<BlockIndex> acquire(std::uint64_t tenant, std::span<const TokenId> tokens);

  struct NewBlock {
    std::size_t position = 0;  // which block of `tokens`
    BlockIndex block;          // where its KV goes
    bool operator==(const NewBlock&) const = default;
  };
  // Makes every whole block of `tokens` known, as far as the capacity allows: unpinned blocks that
  // nobody builds upon make room, least recently used first, never one of `tokens` itself. The new
  // ones come back pinned, in order: the caller fills them and unpins. Counts as use.
  std::vector<NewBlock> insert(std::uint64_t tenant, std::span<const TokenId> tokens);

  void unpin(BlockIndex block);

  // Forgets every block that is not pinned.
  void clear();

  BlockCount size() const { return BlockCount(size_); }
  BlockCount capacity() const { return capacity_; }
  Tokens block_tokens() const { return block_tokens_; }
  const PrefixIndexStats& stats() const { return stats_; }

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  struct Node {
    std::vector<TokenId> tokens;  // empty: not in use
    std::uint64_t tenant = 0;
    std::uint64_t key = 0;
    std::uint32_t parent = kNone;
    std::uint32_t children = 0;
    std::uint32_t pins = 0;
    // Neighbours in order of use; a child is always older than its parent.
    std::uint32_t newer = kNone;
    std::uint32_t older = kNone;
  };
  std::span<const TokenId> block_of(std::span<const TokenId> tokens, std::size_t position) const;
  std::optional<std::uint32_t> child(std::uint32_t parent, std::uint64_t tenant,
                                     std::span<const TokenId> tokens) const;
  std::vector<std::uint32_t> walk(std::uint64_t tenant, std::span<const TokenId> tokens) const;
  void use(std::span<const std::uint32_t> path);
  void link_newest(std::uint32_t node);
  void unlink(std::uint32_t node);
  std::optional<std::uint32_t> take_place();
  void remove(std::uint32_t node);

  Tokens block_tokens_;
  BlockCount capacity_;
  std::int64_t size_ = 0;
  std::vector<Node> nodes_;
  std::vector<std::uint32_t> free_;
  std::unordered_multimap<std::uint64_t, std::uint32_t> by_key_;  // only looked up, never iterated
  std::uint32_t newest_ = kNone;
  std::uint32_t oldest_ = kNone;
  PrefixIndexStats stats_;
};

}  // namespace pd::policy
