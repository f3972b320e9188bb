#include "model/tokenizer/text_table.h"

#define XXH_INLINE_ALL  // a call per lookup would cost as much as the hash of a short word
#include <xxhash.h>

#include <algorithm>

namespace pd::model::tokenizing {
namespace {

std::uint64_t hash_of(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

constexpr std::size_t kSlotsAtFirst = 64;

}  // namespace

bool TextTable::insert(std::string_view text, TokenId id) {
  if (find(text)) return false;
  if ((entries_.size() + 1) * 2 > slots_.size()) grow();
  const std::uint64_t hash = hash_of(text);
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = hash & mask;
  while (slots_[at].entry != 0) at = (at + 1) & mask;
  entries_.push_back({arena_.size(), static_cast<std::uint32_t>(text.size()), id});
  arena_.append(text);
  slots_[at] = {static_cast<std::uint32_t>(hash >> 32),
                static_cast<std::uint32_t>(entries_.size())};
  longest_ = std::max(longest_, text.size());
  return true;
}

std::optional<TokenId> TextTable::find(std::string_view text) const {
  if (slots_.empty() || text.size() > longest_) return std::nullopt;
  const std::uint64_t hash = hash_of(text);
  const auto tag = static_cast<std::uint32_t>(hash >> 32);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = hash & mask; slots_[at].entry != 0; at = (at + 1) & mask) {
    if (slots_[at].tag != tag) continue;
    const Entry& entry = entries_[slots_[at].entry - 1];
    if (text_of(entry) == text) return entry.id;
  }
  return std::nullopt;
}

void TextTable::grow() {
  slots_.assign(std::max(kSlotsAtFirst, slots_.size() * 2), Slot{});
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const std::uint64_t hash = hash_of(text_of(entries_[i]));
    std::size_t at = hash & mask;
    while (slots_[at].entry != 0) at = (at + 1) & mask;
    slots_[at] = {static_cast<std::uint32_t>(hash >> 32), static_cast<std::uint32_t>(i + 1)};
  }
}

}  // namespace pd::model::tokenizing
