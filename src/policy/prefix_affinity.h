// Where a prompt's prefix probably lies in a cache: this gateway remembers which P it sent each
// prefix to. Bounded; the least recently used are forgotten. What it says is a guess that costs
// nothing if wrong: the P knows what it has.
//
// A prompt is known by the hashes of its blocks, each over everything before it and the tenant's
// salt: equal hashes, equal prefixes of the same tenant (G30).
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/units.h"

namespace pd::policy {

inline constexpr Tokens kPrefixBlock{64};

// Of the whole blocks of `prompt`, at most `blocks_max`, first block first. A prompt shorter than a
// block has none.
std::vector<std::uint64_t> prefix_hashes(std::span<const TokenId> prompt, std::uint64_t salt,
                                         Tokens block = kPrefixBlock, std::size_t blocks_max = 512);

// Order of preference that all gateways share without talking: the worker with the highest score
// for a key is everyone's first choice, and when it goes only its own keys move (rendezvous
// hashing; Thaler and Ravishankar 1998).
std::uint64_t rendezvous_score(std::uint64_t key, WorkerId worker);

class PrefixAffinity {
 public:
  // Some 80 bytes an entry.
  explicit PrefixAffinity(std::size_t entries_max) : entries_max_(entries_max) {}

  struct Match {
    WorkerId worker;
    std::size_t blocks = 0;  // that it was sent before
  };
  // The longest remembered prefix.
  std::optional<Match> find(std::span<const std::uint64_t> prefix) const;
  // Blocks that are known stay where they were first: whoever could not go there once must not move
  // the place that the next ones come back to, or several gateways would drift apart.
  void record(std::span<const std::uint64_t> prefix, WorkerId worker);
  void forget(WorkerId worker);  // it has gone, and its cache with it
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    WorkerId worker;
    std::list<std::uint64_t>::iterator used;
  };
  std::size_t entries_max_;
  std::unordered_map<std::uint64_t, Entry> entries_;  // looked up only, never iterated for answers
  std::list<std::uint64_t> used_;                     // most recent first
};

}  // namespace pd::policy
