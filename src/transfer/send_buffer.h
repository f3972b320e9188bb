// Which bytes of P's exposed region belong to which prompt. Bookkeeping only: it knows offsets, not
// memory. A range is contiguous, because one prompt's KV leaves in one piece.
// Best fit, lowest offset among equals; freed neighbours merge. O(log ranges) each.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/units.h"

namespace pd::transfer {

inline constexpr Bytes kRangeAlignment{4096};  // ranges on pages of their own

class SendBuffer {
 public:
  // Every offset is a multiple of `alignment`, a power of two.
  explicit SendBuffer(Bytes capacity, Bytes alignment = kRangeAlignment);

  // The offset of `size` (>= 1) bytes; nullopt: no gap is large enough now.
  std::optional<std::uint64_t> reserve(Bytes size);
  // `offset` came from reserve() and was not released since: anything else is a CHECK.
  void release(std::uint64_t offset);

  Bytes capacity() const { return Bytes(static_cast<std::int64_t>(capacity_)); }
  Bytes used() const { return Bytes(static_cast<std::int64_t>(used_)); }  // rounded up to alignment
  // The largest size that reserve() would grant now; below capacity - used when fragmented.
  Bytes largest_gap() const;
  std::size_t ranges() const { return held_.size(); }

 private:
  void add_gap(std::uint64_t offset, std::uint64_t size);
  void remove_gap(std::map<std::uint64_t, std::uint64_t>::iterator gap);

  std::uint64_t capacity_;
  std::uint64_t alignment_;
  std::uint64_t used_ = 0;
  std::map<std::uint64_t, std::uint64_t> held_;            // offset -> size
  std::map<std::uint64_t, std::uint64_t> gaps_;            // offset -> size, never adjacent
  std::set<std::pair<std::uint64_t, std::uint64_t>> fit_;  // (size, offset) of every gap
};

}  // namespace pd::transfer
