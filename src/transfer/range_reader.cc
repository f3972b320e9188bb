#include "transfer/range_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "base/check.h"

namespace pd::transfer {
namespace {

// Digested, then copied: small, so that both are under way at once in the CPU. From 16 KiB on the
// two take their turns, at two thirds of the rate.
constexpr std::size_t kChunkBytes = 4 * 1024;

// Whole blocks, or equal parts of one.
std::size_t chunk_tokens(const protocol::KvLayout& layout) {
  const auto block = static_cast<std::size_t>(layout.block_plane().value());
  if (block <= kChunkBytes) return kChunkBytes / block * layout.block_tokens;
  const std::size_t parts = (block + kChunkBytes - 1) / kChunkBytes;
  return std::max<std::size_t>(1, layout.block_tokens / parts);
}

}  // namespace

RangeReader::RangeReader(const KvPoolView& pool, std::span<const BlockIndex> table,
                         const KvRangeTicket& ticket)
    : pool_(pool),
      table_(table),
      ticket_(ticket),
      stores_(stores_for(pool.layout.range(ticket.tokens))) {
  CHECK(pool.layout.row().value() > 0);
  CHECK(pool.planes.size() == 2U * pool.layout.layers);
  CHECK(ticket.tokens.value() > 0);
}

Status RangeReader::header(std::span<const std::byte> header) {
  if (Status checked = check_range_header(pool_.layout, header, ticket_); !checked) return checked;
  expected_.clear();
  for (int layer = 0; layer < pool_.layout.layers; ++layer) {
    expected_.push_back(stored_layer_digest(header, layer));
  }
  return {};
}

Status RangeReader::header_again(std::span<const std::byte> header) const {
  // Everything that was read of the range was read before its header is looked at now.
  std::atomic_thread_fence(std::memory_order_acquire);
  return check_range_header(pool_.layout, header, ticket_);
}

Status RangeReader::feed(std::span<const std::byte> rows) {
  const auto row = static_cast<std::size_t>(pool_.layout.row().value());
  const std::size_t per_chunk = chunk_tokens(pool_.layout);
  CHECK(expected_.size() == pool_.layout.layers);
  CHECK(rows.size() % row == 0);
  while (!rows.empty()) {
    CHECK(!complete());
    if (!digest_) digest_.emplace(static_cast<std::uint64_t>(layer_));
    const auto left = static_cast<std::size_t>((ticket_.tokens - token_).value());
    const std::size_t count = std::min({per_chunk, left, rows.size() / row});
    const std::span<const std::byte> chunk = rows.first(count * row);
    rows = rows.subspan(chunk.size());
    digest_->update(chunk);
    scatter_rows(pool_, table_, {layer_, k_or_v_}, token_, chunk, stores_,
                 Bytes(static_cast<std::int64_t>(rows.size())));
    token_ += Tokens(static_cast<std::int64_t>(count));
    if (token_ == ticket_.tokens) {
      if (Status ended = end_plane(); !ended) return ended;
    }
  }
  if (stores_ == Stores::kAroundCache) stores_done();
  return {};
}

Status RangeReader::end_plane() {
  token_ = Tokens(0);
  if (k_or_v_ == 0) {
    k_or_v_ = 1;
    return {};
  }
  const int layer = layer_++;
  k_or_v_ = 0;
  const bool fits = digest_->value() == expected_[static_cast<std::size_t>(layer)];
  digest_.reset();
  if (fits) return {};
  return error(ErrorCode::kCorrupt, fmt::format("KV range: layer {} fails its digest", layer));
}

}  // namespace pd::transfer
