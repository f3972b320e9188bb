#include "transfer/handoff_receiver.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "transfer/kv_range.h"

namespace pd::transfer {

HandoffReceiver::HandoffReceiver(HandoffPlan plan, std::function<void(Result<HandoffStats>)> done)
    : plan_(std::move(plan)), done_(std::move(done)) {}

void HandoffReceiver::start(KvTransport& transport) {
  transport_ = &transport;
  if (cancelled_) return finish(error(ErrorCode::kCancelled, "the handoff was cancelled"));
  plan_.block_fixed ? pull_blocks() : pull();
}

void HandoffReceiver::cancel() {
  if (std::exchange(cancelled_, true) || !pull_) return;
  transport_->cancel(*pull_);  // its callback ends the handoff
}

void HandoffReceiver::pull() {
  const protocol::KvDescriptor& d = plan_.descriptor;
  stats_.pieces = 1;
  stats_.bytes = d.size;
  pull_ = transport_->pull({d.boot_id, d.address_blob}, {d.region_key, d.offset, d.size},
                           [self = shared_from_this()](Result<std::span<const std::byte>> bytes) {
                             self->pull_.reset();
                             self->on_bytes(bytes);
                           });
}

// What a paged sender does: every block of every plane is a message of its own. Kept as the
// baseline that the contiguous range is measured against.
void HandoffReceiver::pull_blocks() {
  const protocol::KvDescriptor& d = plan_.descriptor;
  if (assembled_.empty()) {
    const protocol::KvLayout& layout = plan_.pool.layout;
    assembled_.resize(static_cast<std::size_t>(d.size.value()));
    const auto header = static_cast<std::uint64_t>(range_header_bytes(layout).value());
    const auto per_block = static_cast<std::uint64_t>(layout.block_plane().value());
    const auto plane = static_cast<std::uint64_t>(layout.row().value() * d.tokens.value());
    for (std::uint64_t p = 0; p < 2ull * layout.layers; ++p) {
      for (std::uint64_t at = 0; at < plane; at += per_block)
        pieces_.emplace_back(header + p * plane + at, std::min(per_block, plane - at));
    }
    pieces_.emplace_back(0, header);
    stats_.pieces = static_cast<std::uint32_t>(pieces_.size());
    stats_.bytes = d.size;
  }
  if (pieces_.empty()) {
    const std::vector<std::byte> whole = std::exchange(assembled_, {});
    return on_bytes(std::span<const std::byte>(whole));
  }
  const auto [offset, size] = pieces_.back();
  pieces_.pop_back();
  pull_ = transport_->pull(
      {d.boot_id, d.address_blob},
      {d.region_key, d.offset + offset, Bytes(static_cast<std::int64_t>(size))},
      [self = shared_from_this(), at = offset](Result<std::span<const std::byte>> bytes) {
        self->pull_.reset();
        if (!bytes) return self->finish(std::unexpected(bytes.error()));
        std::memcpy(self->assembled_.data() + at, bytes->data(), bytes->size());
        self->pull_blocks();
      });
}

void HandoffReceiver::on_bytes(const Result<std::span<const std::byte>>& bytes) {
  if (cancelled_) return finish(error(ErrorCode::kCancelled, "the handoff was cancelled"));
  if (!bytes) return finish(std::unexpected(bytes.error()));
  const Status taken = take(*bytes);
  if (taken) return finish(stats_);
  if (taken.error().code != ErrorCode::kCorrupt || stats_.integrity_failures > 0)
    return finish(std::unexpected(taken.error()));
  ++stats_.integrity_failures;
  plan_.block_fixed ? pull_blocks() : pull();
}

// Layer by layer, the digest right before the copy, while the bytes are in the cache. A peer on
// this machine may reuse its memory while we read: whatever was copied of it is then refused by the
// second look at the header.
Status HandoffReceiver::take(std::span<const std::byte> range) {
  const protocol::KvLayout& layout = plan_.pool.layout;
  const protocol::KvDescriptor& d = plan_.descriptor;
  const KvRangeTicket ticket{d.epoch, d.read_key, d.tokens};
  if (auto checked = check_range_header(layout, range, ticket); !checked) return checked;
  const auto kv = range.subspan(static_cast<std::size_t>(range_header_bytes(layout).value()));
  for (int layer = 0; layer < layout.layers; ++layer) {
    if (layer_digest(layout, range, d.tokens, layer) != stored_layer_digest(range, layer)) {
      return error(ErrorCode::kCorrupt, fmt::format("KV range: layer {} fails its digest", layer));
    }
    scatter_layer(plan_.pool, plan_.table, kv, d.tokens, layer);
  }
  return check_range_header(layout, range, ticket);
}

void HandoffReceiver::notify(protocol::HandoffOutcome outcome) {
  const protocol::KvDescriptor& d = plan_.descriptor;
  const std::string message =
      encode(protocol::HandoffMessage{plan_.id, d.epoch, d.read_key, outcome});
  transport_->notify({d.boot_id, d.address_blob}, std::as_bytes(std::span(message)), nullptr);
}

void HandoffReceiver::finish(Result<HandoffStats> result) {
  if (!done_) return;
  using protocol::HandoffOutcome;
  if (result)
    notify(HandoffOutcome::kDone);
  else if (result.error().code == ErrorCode::kCorrupt)
    notify(HandoffOutcome::kFailed);
  // Cancelled or unreachable: P learns it from the gateway, or is gone.
  std::exchange(done_, nullptr)(std::move(result));
}

}  // namespace pd::transfer
