#include "policy/prefix_index.h"

#include <gtest/gtest.h>

#include <list>
#include <map>
#include <set>

#include "base/rng.h"

namespace pd::policy {
namespace {

std::vector<TokenId> tokens(std::initializer_list<int> ids) { return {ids.begin(), ids.end()}; }

std::vector<std::size_t> added(PrefixIndex& index, std::uint64_t tenant,
                               const std::vector<TokenId>& prompt) {
  std::vector<std::size_t> positions;
  for (const auto& block : index.insert(tenant, prompt)) {
    positions.push_back(block.position);
    index.unpin(block.block);
  }
  return positions;
}
std::size_t matched(PrefixIndex& index, std::uint64_t tenant, const std::vector<TokenId>& prompt) {
  const auto blocks = index.acquire(tenant, prompt);
  for (BlockIndex block : blocks) index.unpin(block);
  return blocks.size();
}

TEST(PrefixIndex, FindsTheLongestKnownPrefixInWholeBlocks) {
  PrefixIndex index(Tokens(2), BlockCount(10));
  EXPECT_EQ(added(index, 1, tokens({1, 2, 3, 4, 5})), (std::vector<std::size_t>{0, 1}));
  EXPECT_EQ(added(index, 1, tokens({1, 2, 9, 9})), (std::vector<std::size_t>{1}));
  EXPECT_EQ(matched(index, 1, tokens({1, 2, 3, 4, 5, 6})), 2U);
  EXPECT_EQ(matched(index, 1, tokens({1, 2, 9, 9, 3, 4})), 2U);
  EXPECT_EQ(matched(index, 1, tokens({1, 2, 3})), 1U);
  EXPECT_EQ(matched(index, 1, tokens({3, 4})), 0U);  // known, but not as a beginning
  EXPECT_EQ(matched(index, 1, {}), 0U);
  EXPECT_EQ(index.stats().acquired, 5U);
}

TEST(PrefixIndex, TenantsSeeOnlyTheirOwn) {
  PrefixIndex index(Tokens(2), BlockCount(10));
  added(index, 1, tokens({1, 2, 3, 4}));
  EXPECT_EQ(matched(index, 2, tokens({1, 2, 3, 4})), 0U);
  EXPECT_EQ(added(index, 2, tokens({1, 2, 3, 4})).size(), 2U);
  EXPECT_EQ(index.size(), BlockCount(4));
}

TEST(PrefixIndex, TheLeastRecentlyUsedLeafGoesFirst) {
  PrefixIndex index(Tokens(1), BlockCount(4));
  added(index, 1, tokens({1, 2}));
  added(index, 1, tokens({3, 4}));
  matched(index, 1, tokens({1, 2}));
  EXPECT_EQ(added(index, 1, tokens({5})).size(), 1U);  // 4 goes, not its parent
  EXPECT_EQ(matched(index, 1, tokens({3, 4})), 1U);
  EXPECT_EQ(matched(index, 1, tokens({1, 2})), 2U);
  EXPECT_EQ(index.stats().evicted, 1U);
}

TEST(PrefixIndex, PinnedBlocksStayAndALongPromptDoesNotEatItself) {
  PrefixIndex index(Tokens(1), BlockCount(3));
  const auto first = index.insert(1, tokens({1, 2}));
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(added(index, 1, tokens({7, 8, 9})), (std::vector<std::size_t>{0}));
  for (const auto& block : first) index.unpin(block.block);
  EXPECT_EQ(added(index, 1, tokens({7, 8, 9, 10, 11})), (std::vector<std::size_t>{1, 2}));
  EXPECT_EQ(matched(index, 1, tokens({7, 8, 9, 10})), 3U);
  index.clear();
  EXPECT_EQ(index.size(), BlockCount(0));
}

TEST(PrefixIndex, ACapacityOfNothingIsNoCache) {
  PrefixIndex index(Tokens(4), BlockCount(0));
  EXPECT_TRUE(added(index, 1, std::vector<TokenId>(100, 1)).empty());
  EXPECT_EQ(matched(index, 1, std::vector<TokenId>(100, 1)), 0U);
}

// Against the obvious: a list of whole prefixes in order of use.
class NaiveIndex {
 public:
  using Prefix = std::pair<std::uint64_t, std::vector<TokenId>>;
  explicit NaiveIndex(std::size_t capacity) : capacity_(capacity) {}

  std::size_t match(std::uint64_t tenant, const std::vector<TokenId>& prompt) {
    std::size_t blocks = 0;
    while (blocks < prompt.size() && place_.contains(prefix(tenant, prompt, blocks + 1))) ++blocks;
    use(tenant, prompt, blocks);
    return blocks;
  }
  std::size_t insert(std::uint64_t tenant, const std::vector<TokenId>& prompt) {
    std::size_t new_ones = 0;
    for (std::size_t blocks = 1; blocks <= prompt.size(); ++blocks) {
      const Prefix wanted = prefix(tenant, prompt, blocks);
      if (place_.contains(wanted)) continue;
      if (order_.size() == capacity_ && !evict(tenant, prompt)) break;
      order_.push_front(wanted);
      place_[wanted] = order_.begin();
      ++new_ones;
    }
    std::size_t known = 0;
    while (known < prompt.size() && place_.contains(prefix(tenant, prompt, known + 1))) ++known;
    use(tenant, prompt, known);
    return new_ones;
  }
  std::size_t size() const { return order_.size(); }

 private:
  static Prefix prefix(std::uint64_t tenant, const std::vector<TokenId>& prompt,
                       std::size_t blocks) {
    return {tenant, {prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(blocks)}};
  }
  void use(std::uint64_t tenant, const std::vector<TokenId>& prompt, std::size_t blocks) {
    for (; blocks > 0; --blocks) {
      const auto it = place_.at(prefix(tenant, prompt, blocks));
      order_.splice(order_.begin(), order_, it);
    }
  }
  bool evict(std::uint64_t tenant, const std::vector<TokenId>& keep) {
    for (auto it = order_.rbegin(); it != order_.rend(); ++it) {
      const auto& ids = it->second;
      const bool own = it->first == tenant && ids.size() <= keep.size() &&
                       std::equal(ids.begin(), ids.end(), keep.begin());
      bool has_child = false;
      for (const auto& [other, place] : place_) {
        has_child |= other.first == it->first && other.second.size() == ids.size() + 1 &&
                     std::equal(ids.begin(), ids.end(), other.second.begin());
      }
      if (own || has_child) continue;
      const Prefix victim = *it;
      order_.erase(place_.at(victim));
      place_.erase(victim);
      return true;
    }
    return false;
  }
  std::size_t capacity_;
  std::list<Prefix> order_;
  std::map<Prefix, std::list<Prefix>::iterator> place_;
};

TEST(PrefixIndex, AgreesWithANaiveMap) {
  for (const std::int64_t capacity : {1, 3, 12, 60}) {
    Rng rng(static_cast<std::uint64_t>(capacity));
    PrefixIndex index(Tokens(1), BlockCount(capacity));
    NaiveIndex naive(static_cast<std::size_t>(capacity));
    for (int step = 0; step < 3000; ++step) {
      std::vector<TokenId> prompt(rng.below(7));
      for (TokenId& id : prompt) id = static_cast<TokenId>(rng.below(3));
      const std::uint64_t tenant = rng.below(2);
      if (rng.below(2) == 0) {
        ASSERT_EQ(matched(index, tenant, prompt), naive.match(tenant, prompt)) << step;
      } else {
        ASSERT_EQ(added(index, tenant, prompt).size(), naive.insert(tenant, prompt)) << step;
      }
      ASSERT_EQ(index.size(), BlockCount(static_cast<std::int64_t>(naive.size())));
    }
  }
}

// What lies in a place is what was put there: the caller's memory never serves another prefix.
TEST(PrefixIndex, PlacesHoldTheBlocksTheyNameUnderPins) {
  Rng rng(77);
  PrefixIndex index(Tokens(2), BlockCount(16));
  std::map<BlockIndex, std::pair<std::uint64_t, std::vector<TokenId>>> memory;
  std::vector<std::pair<std::vector<BlockIndex>, std::vector<std::vector<TokenId>>>> pinned;
  for (int step = 0; step < 20000; ++step) {
    std::vector<TokenId> prompt(rng.below(16));
    for (TokenId& id : prompt) id = static_cast<TokenId>(rng.below(2));
    const std::uint64_t tenant = rng.below(2);
    if (rng.below(2) == 0) {
      for (const auto& block : index.insert(tenant, prompt)) {
        memory[block.block] = {tenant,
                               {prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(
                                                                     2 * (block.position + 1))}};
        index.unpin(block.block);
      }
    } else {
      const auto blocks = index.acquire(tenant, prompt);
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        const auto& [owner, ids] = memory.at(blocks[i]);
        ASSERT_EQ(owner, tenant);
        ASSERT_EQ(ids,
                  std::vector<TokenId>(prompt.begin(),
                                       prompt.begin() + static_cast<std::ptrdiff_t>(2 * (i + 1))));
      }
      std::vector<std::vector<TokenId>> held;
      for (BlockIndex block : blocks) held.push_back(memory.at(block).second);
      pinned.emplace_back(blocks, held);
    }
    if (pinned.size() > 2) {  // still what they were when they were pinned
      const auto& [blocks, held] = pinned.front();
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        ASSERT_EQ(memory.at(blocks[i]).second, held[i]);
        index.unpin(blocks[i]);
      }
      pinned.erase(pinned.begin());
    }
    ASSERT_LE(index.size(), index.capacity());
  }
  EXPECT_GT(index.stats().evicted, 100U);
  EXPECT_GT(index.stats().acquired, 100U);
}

}  // namespace
}  // namespace pd::policy
