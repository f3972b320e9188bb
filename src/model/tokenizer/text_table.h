// Strings with ids, looked up by content: an open-addressing table over one arena. Built once, then
// read from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"

namespace pd::model::tokenizing {

class TextTable {
 public:
  // False, and no change, when the text is there already.
  bool insert(std::string_view text, TokenId id);
  std::optional<TokenId> find(std::string_view text) const;
  std::size_t size() const { return entries_.size(); }
  std::size_t longest() const { return longest_; }  // bytes of the longest text

 private:
  struct Entry {
    std::uint64_t offset;
    std::uint32_t length;
    TokenId id;
  };
  struct Slot {
    std::uint32_t tag = 0;    // upper half of the hash
    std::uint32_t entry = 0;  // index + 1, 0 = empty
  };
  std::string_view text_of(const Entry& entry) const {
    return std::string_view(arena_).substr(entry.offset, entry.length);
  }
  void grow();

  std::string arena_;
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;  // a power of two, at most half full
  std::size_t longest_ = 0;
};

}  // namespace pd::model::tokenizing
