// How a range is cut into pulls: the header first, and again at the end where the bytes are viewed
// in the peer's memory piece by piece; in between whole rows, in order.
#pragma once

#include <cstdint>
#include <optional>

#include "base/units.h"
#include "protocol/kv_layout.h"

namespace pd::transfer {

struct RangePiece {
  std::uint64_t offset = 0;  // in the range
  Bytes size;
  Bytes header;        // of it, at its start
  bool again = false;  // the header a second time
};

class RangePieces {
 public:
  // As few as `most` bytes per piece (at least a row) allow; one when the range is not larger.
  static RangePieces contiguous(const protocol::KvLayout& layout, Tokens tokens, Bytes most,
                                bool second_look);
  // One per block and plane, as a paged sender has them.
  static RangePieces per_block(const protocol::KvLayout& layout, Tokens tokens, bool second_look);

  std::optional<RangePiece> next();  // nullopt: that was all

 private:
  RangePieces(const protocol::KvLayout& layout, Tokens tokens, Bytes most, bool per_block,
              bool second_look);
  std::uint64_t header_;
  std::uint64_t row_;
  std::uint64_t plane_;  // bytes of K or V of a layer
  std::uint64_t end_;    // of the range
  std::uint64_t most_;
  bool per_block_;
  bool second_look_;
  std::uint64_t at_ = 0;
};

}  // namespace pd::transfer
