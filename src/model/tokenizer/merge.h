// The merge loop of byte pair encoding: join the pair of neighbours with the best rank, the
// leftmost among equals, until no pair has one.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "base/units.h"

namespace pd::model::tokenizing {

struct Symbol {
  TokenId id = 0;            // negative: no token of its own
  std::uint32_t begin = 0;   // of its text within the word
  std::uint32_t length = 0;  // 0: merged into the one before
  std::uint32_t previous = 0;
  std::uint32_t next = 0;  // indices of neighbours, used while a heap drives the loop
};

struct Merge {
  static constexpr std::uint32_t kNever = std::numeric_limits<std::uint32_t>::max();
  std::uint32_t rank = kNever;
  TokenId id = 0;
};

struct MergeScratch {
  struct Candidate {
    std::uint64_t order;   // rank in the upper half, index of the left symbol in the lower
    std::uint32_t length;  // of both texts: a pair that has changed since is longer
    TokenId id;
    bool operator>(const Candidate& other) const { return order > other.order; }
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

namespace internal {

// Up to this many symbols, a scan for the best pair beats a heap's bookkeeping.
inline constexpr std::size_t kScanMax = 32;

template <typename Rule>
void merge_by_scan(std::vector<Symbol>& symbols, const Rule& rule) {
  std::array<Merge, kScanMax> pairs;
  std::size_t count = symbols.size();
  for (std::size_t i = 0; i + 1 < count; ++i) pairs[i] = rule(symbols[i], symbols[i + 1]);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].rank == Merge::kNever) break;
    symbols[best].id = pairs[best].id;
    symbols[best].length += symbols[best + 1].length;
    for (std::size_t i = best + 1; i + 1 < count; ++i) {
      symbols[i] = symbols[i + 1];
      pairs[i] = pairs[i + 1];
    }
    --count;
    if (best > 0) pairs[best - 1] = rule(symbols[best - 1], symbols[best]);
    if (best + 1 < count) pairs[best] = rule(symbols[best], symbols[best + 1]);
  }
  symbols.resize(count);
}

template <typename Rule>
void merge_by_heap(MergeScratch& scratch, const Rule& rule) {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto count = static_cast<std::uint32_t>(symbols.size());
  heap.clear();
  const auto candidate = [&](std::uint32_t left, std::uint32_t right, bool sift) {
    const Merge merge = rule(symbols[left], symbols[right]);
    if (merge.rank == Merge::kNever) return;
    heap.push_back({std::uint64_t{merge.rank} << 32 | left,
                    symbols[left].length + symbols[right].length, merge.id});
    if (sift) std::ranges::push_heap(heap, std::greater<>());
  };
  for (std::uint32_t i = 0; i < count; ++i) {
    symbols[i].previous = i == 0 ? count : i - 1;  // `count` stands for "none"
    symbols[i].next = i + 1;
    if (i > 0) candidate(i - 1, i, false);
  }
  std::ranges::make_heap(heap, std::greater<>());
  while (!heap.empty()) {
    std::ranges::pop_heap(heap, std::greater<>());
    const MergeScratch::Candidate best = heap.back();
    heap.pop_back();
    const auto at = static_cast<std::uint32_t>(best.order);
    Symbol& left = symbols[at];
    if (left.length == 0 || left.next == count) continue;
    Symbol& right = symbols[left.next];
    if (left.length + right.length != best.length) continue;
    left.id = best.id;
    left.length = best.length;
    left.next = right.next;
    right.length = 0;
    if (left.next != count) symbols[left.next].previous = at;
    if (left.previous != count) candidate(left.previous, at, true);
    if (left.next != count) candidate(at, left.next, true);
  }
  std::erase_if(symbols, [](const Symbol& s) { return s.length == 0; });
}

}  // namespace internal

// Merges scratch.symbols in place. `rule(left, right)` gives the merge of two neighbours; its rank
// must depend on their texts alone. Time n log n in the number of symbols.
template <typename Rule>
void merge_symbols(MergeScratch& scratch, const Rule& rule) {
  if (scratch.symbols.size() < 2) return;
  if (scratch.symbols.size() <= internal::kScanMax) {
    internal::merge_by_scan(scratch.symbols, rule);
  } else {
    internal::merge_by_heap(scratch, rule);
  }
}

}  // namespace pd::model::tokenizing
