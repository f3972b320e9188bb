#include "policy/prefix_affinity.h"

#include <algorithm>

#include "base/digest.h"
#include "base/rng.h"

namespace pd::policy {

std::vector<std::uint64_t> prefix_hashes(std::span<const TokenId> prompt, std::uint64_t salt,
                                         Tokens block, std::size_t blocks_max) {
  const auto step = static_cast<std::size_t>(block.value());
  std::vector<std::uint64_t> out;
  out.reserve(std::min(prompt.size() / step, blocks_max));
  std::uint64_t before = mix64(salt);
  for (std::size_t at = 0; at + step <= prompt.size() && out.size() < blocks_max; at += step) {
    before = digest64(std::as_bytes(prompt.subspan(at, step)), before);
    out.push_back(before);
  }
  return out;
}

std::uint64_t rendezvous_score(std::uint64_t key, WorkerId worker) {
  return counter_random(key, worker.value());
}

std::optional<PrefixAffinity::Match> PrefixAffinity::find(
    std::span<const std::uint64_t> prefix) const {
  for (std::size_t blocks = prefix.size(); blocks > 0; --blocks) {
    const auto it = entries_.find(prefix[blocks - 1]);
    if (it != entries_.end()) return Match{it->second.worker, blocks};
  }
  return std::nullopt;
}

void PrefixAffinity::record(std::span<const std::uint64_t> prefix, WorkerId worker) {
  // Deepest first: what is forgotten first of a prefix is then its end.
  for (std::size_t i = prefix.size(); i > 0; --i) {
    const std::uint64_t hash = prefix[i - 1];
    const auto it = entries_.find(hash);
    if (it != entries_.end()) {
      used_.splice(used_.begin(), used_, it->second.used);
      continue;
    }
    used_.push_front(hash);
    entries_.emplace(hash, Entry{worker, used_.begin()});
  }
  while (entries_.size() > entries_max_) {
    entries_.erase(used_.back());
    used_.pop_back();
  }
}

void PrefixAffinity::forget(WorkerId worker) {
  for (auto it = used_.begin(); it != used_.end();) {
    const auto entry = entries_.find(*it);
    if (entry->second.worker == worker) {
      entries_.erase(entry);
      it = used_.erase(it);
    } else {
      ++it;
    }
  }
}

}  // namespace pd::policy
