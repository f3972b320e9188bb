// Checks and scatters a range while its bytes arrive: header first, then the KV in order, in pieces
// of whole rows. Each layer is digested and copied chunk by chunk, so that its bytes come from
// memory once.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/digest.h"
#include "base/result.h"
#include "base/units.h"
#include "transfer/kv_range.h"
#include "transfer/scatter.h"

namespace pd::transfer {

class RangeReader {
 public:
  // `table` holds `ticket.tokens`. Both outlive the reader, and nobody else writes the blocks.
  RangeReader(const KvPoolView& pool, std::span<const BlockIndex> table,
              const KvRangeTicket& ticket);

  // The header's range_header_bytes(). Errors as check_range_header().
  Status header(std::span<const std::byte> header);
  // The next bytes of the KV: whole rows. kCorrupt names the layer whose digest does not fit; what
  // was scattered of it is garbage then.
  Status feed(std::span<const std::byte> rows);
  // A second look at the header. Bytes that were viewed in the peer's memory are those that were
  // digested only if the range was not given up meanwhile.
  Status header_again(std::span<const std::byte> header) const;

  bool complete() const { return layer_ == pool_.layout.layers; }

 private:
  Status end_plane();

  KvPoolView pool_;
  std::span<const BlockIndex> table_;
  KvRangeTicket ticket_;
  Stores stores_;
  std::vector<std::uint64_t> expected_;  // digest per layer
  std::optional<Digest64> digest_;       // of the current layer
  int layer_ = 0;
  int k_or_v_ = 0;
  Tokens token_{0};  // next one of the current plane
};

}  // namespace pd::transfer
