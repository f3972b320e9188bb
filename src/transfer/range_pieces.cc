#include "transfer/range_pieces.h"

#include <algorithm>

#include "base/check.h"
#include "transfer/kv_range.h"

namespace pd::transfer {

RangePieces::RangePieces(const protocol::KvLayout& layout, Tokens tokens, Bytes most,
                         bool per_block, bool second_look)
    : header_(static_cast<std::uint64_t>(range_header_bytes(layout).value())),
      row_(static_cast<std::uint64_t>(layout.row().value())),
      plane_(row_ * static_cast<std::uint64_t>(tokens.value())),
      end_(static_cast<std::uint64_t>(range_bytes(layout, tokens).value())),
      most_(static_cast<std::uint64_t>(most.value())),
      per_block_(per_block),
      second_look_(second_look && (per_block || end_ > most_)) {
  CHECK(row_ > 0);
  CHECK(tokens.value() > 0);
}

RangePieces RangePieces::contiguous(const protocol::KvLayout& layout, Tokens tokens, Bytes most,
                                    bool second_look) {
  return {layout, tokens, most, false, second_look};
}

RangePieces RangePieces::per_block(const protocol::KvLayout& layout, Tokens tokens,
                                   bool second_look) {
  return {layout, tokens, layout.block_plane(), true, second_look};
}

std::optional<RangePiece> RangePieces::next() {
  const auto bytes = [](std::uint64_t n) { return Bytes(static_cast<std::int64_t>(n)); };
  if (at_ == end_) {
    if (!second_look_) return std::nullopt;
    second_look_ = false;
    return RangePiece{.offset = 0, .size = bytes(header_), .header = bytes(header_), .again = true};
  }
  RangePiece piece{.offset = at_};
  if (at_ == 0) piece.header = bytes(header_);
  const std::uint64_t header = at_ == 0 ? header_ : 0;
  std::uint64_t rows = end_ - at_ - header;
  if (per_block_) {
    const std::uint64_t in_plane = at_ == 0 ? 0 : (at_ - header_) % plane_;
    rows = at_ == 0 ? 0 : std::min(most_, plane_ - in_plane);
  } else if (header + rows > most_) {
    const std::uint64_t room = most_ > header ? most_ - header : 0;
    rows = std::min(rows, std::max(row_, room / row_ * row_));
  }
  piece.size = bytes(header + rows);
  at_ += header + rows;
  return piece;
}

}  // namespace pd::transfer
