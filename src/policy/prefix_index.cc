#include "policy/prefix_index.h"

#include <algorithm>

#include "base/check.h"
#include "base/digest.h"
#include "base/rng.h"

namespace pd::policy {
namespace {

std::uint64_t key_of(std::uint32_t parent, std::uint64_t tenant, std::span<const TokenId> tokens) {
  return digest64(std::as_bytes(tokens), mix64(tenant) ^ parent);
}

}  // namespace

PrefixIndex::PrefixIndex(Tokens block_tokens, BlockCount capacity)
    : block_tokens_(block_tokens), capacity_(capacity) {
  CHECK(block_tokens.value() >= 1);
  CHECK(capacity.value() >= 0);
  CHECK(capacity.value() < kNone);
}

std::vector<BlockIndex> PrefixIndex::acquire(std::uint64_t tenant,
                                             std::span<const TokenId> tokens) {
  const std::vector<std::uint32_t> path = walk(tenant, tokens);
  use(path);
  stats_.acquired += path.size();
  std::vector<BlockIndex> blocks;
  for (const std::uint32_t node : path) {
    ++nodes_[node].pins;
    blocks.emplace_back(node);
  }
  return blocks;
}

std::vector<PrefixIndex::NewBlock> PrefixIndex::insert(std::uint64_t tenant,
                                                       std::span<const TokenId> tokens) {
  std::vector<std::uint32_t> path = walk(tenant, tokens);
  // The path must not make room for its own continuation.
  for (const std::uint32_t node : path) ++nodes_[node].pins;
  const std::size_t known = path.size();
  const std::size_t wanted = tokens.size() / static_cast<std::size_t>(block_tokens_.value());
  std::vector<NewBlock> added;
  for (std::size_t position = known; position < wanted; ++position) {
    const std::optional<std::uint32_t> place = take_place();
    if (!place) break;
    const std::span<const TokenId> block = block_of(tokens, position);
    Node& node = nodes_[*place];
    node.tokens.assign(block.begin(), block.end());
    node.tenant = tenant;
    node.parent = path.empty() ? kNone : path.back();
    node.key = key_of(node.parent, tenant, block);
    node.pins = 1;
    if (node.parent != kNone) ++nodes_[node.parent].children;
    by_key_.emplace(node.key, *place);
    link_newest(*place);
    ++size_;
    ++stats_.inserted;
    path.push_back(*place);
    added.push_back({position, BlockIndex(*place)});
  }
  for (std::size_t i = 0; i < known; ++i) --nodes_[path[i]].pins;
  use(path);
  return added;
}

void PrefixIndex::unpin(BlockIndex block) {
  CHECK(block.value() < nodes_.size());
  Node& node = nodes_[block.value()];
  CHECK(node.pins > 0);
  --node.pins;
}

void PrefixIndex::clear() {
  // Oldest first meets children before their parents.
  for (std::uint32_t node = oldest_; node != kNone;) {
    const std::uint32_t next = nodes_[node].newer;
    if (nodes_[node].pins == 0 && nodes_[node].children == 0) remove(node);
    node = next;
  }
}

std::span<const TokenId> PrefixIndex::block_of(std::span<const TokenId> tokens,
                                               std::size_t position) const {
  const auto length = static_cast<std::size_t>(block_tokens_.value());
  return tokens.subspan(position * length, length);
}

std::optional<std::uint32_t> PrefixIndex::child(std::uint32_t parent, std::uint64_t tenant,
                                                std::span<const TokenId> tokens) const {
  const auto [first, last] = by_key_.equal_range(key_of(parent, tenant, tokens));
  for (auto it = first; it != last; ++it) {
    const Node& node = nodes_[it->second];
    if (node.parent == parent && node.tenant == tenant &&
        std::equal(tokens.begin(), tokens.end(), node.tokens.begin(), node.tokens.end())) {
      return it->second;
    }
  }
  return std::nullopt;
}

std::vector<std::uint32_t> PrefixIndex::walk(std::uint64_t tenant,
                                             std::span<const TokenId> tokens) const {
  std::vector<std::uint32_t> path;
  const std::size_t blocks = tokens.size() / static_cast<std::size_t>(block_tokens_.value());
  for (std::size_t position = 0; position < blocks; ++position) {
    const auto next = child(path.empty() ? kNone : path.back(), tenant, block_of(tokens, position));
    if (!next) break;
    path.push_back(*next);
  }
  return path;
}

// Last block first, so that every parent ends up newer than its children.
void PrefixIndex::use(std::span<const std::uint32_t> path) {
  for (std::size_t i = path.size(); i-- > 0;) {
    unlink(path[i]);
    link_newest(path[i]);
  }
}

void PrefixIndex::link_newest(std::uint32_t node) {
  nodes_[node].older = newest_;
  nodes_[node].newer = kNone;
  if (newest_ != kNone) nodes_[newest_].newer = node;
  newest_ = node;
  if (oldest_ == kNone) oldest_ = node;
}

void PrefixIndex::unlink(std::uint32_t node) {
  const std::uint32_t older = nodes_[node].older;
  const std::uint32_t newer = nodes_[node].newer;
  (older == kNone ? oldest_ : nodes_[older].newer) = newer;
  (newer == kNone ? newest_ : nodes_[newer].older) = older;
}

std::optional<std::uint32_t> PrefixIndex::take_place() {
  if (size_ == capacity_.value()) {
    // Leaves are at the old end; pinned ones are few, because a pin lasts for one copy.
    std::uint32_t victim = oldest_;
    while (victim != kNone && (nodes_[victim].pins > 0 || nodes_[victim].children > 0)) {
      victim = nodes_[victim].newer;
    }
    if (victim == kNone) return std::nullopt;
    remove(victim);
    ++stats_.evicted;
  }
  if (free_.empty()) {
    nodes_.emplace_back();
    return static_cast<std::uint32_t>(nodes_.size() - 1);
  }
  const std::uint32_t place = free_.back();
  free_.pop_back();
  return place;
}

void PrefixIndex::remove(std::uint32_t node) {
  CHECK(nodes_[node].pins == 0);
  CHECK(nodes_[node].children == 0);
  unlink(node);
  const auto [first, last] = by_key_.equal_range(nodes_[node].key);
  for (auto it = first; it != last; ++it) {
    if (it->second == node) {
      by_key_.erase(it);
      break;
    }
  }
  if (nodes_[node].parent != kNone) --nodes_[nodes_[node].parent].children;
  nodes_[node] = Node{};
  free_.push_back(node);
  --size_;
}

}  // namespace pd::policy
