#include "transfer/handoff_receiver.h"

#include <fmt/format.h>

#include <utility>

#include "transfer/kv_range.h"

namespace pd::transfer {
namespace {

// Where bytes are staged: small enough that a piece is still in the cache when it is scattered, and
// enough of them that the wire stays full meanwhile.
constexpr Bytes kPieceBytes{1 << 20};
constexpr int kPiecesAsked = 8;
// Blocks one by one: as many at a time as a sender with a queue per peer has under way.
constexpr int kBlocksAsked = 16;
// Where bytes are viewed: all in one, unless that kept the thread from its other peers too long.
constexpr Bytes kViewedBytes{256 << 20};

}  // namespace

HandoffReceiver::HandoffReceiver(HandoffPlan plan, std::function<void(Result<HandoffStats>)> done)
    : plan_(std::move(plan)), done_(std::move(done)) {}

PeerAddress HandoffReceiver::peer() const {
  return {plan_.descriptor.boot_id, plan_.descriptor.address_blob};
}

void HandoffReceiver::start(KvTransport& transport) {
  transport_ = &transport;
  const protocol::KvDescriptor& d = plan_.descriptor;
  if (cancelled_) return finish(error(ErrorCode::kCancelled, "the handoff was cancelled"));
  if (d.tokens.value() < 1 || d.size != range_bytes(plan_.pool.layout, d.tokens)) {
    return finish(error(ErrorCode::kInvalidArgument,
                        fmt::format("KV descriptor: {} bytes are not a range of {} tokens",
                                    d.size.value(), d.tokens.value())));
  }
  // How the range is cut depends on what carries it.
  if (transport.transport_to(d.boot_id)) return begin();
  transport.connect(peer(), [self = shared_from_this()](const Status& connected) {
    if (!self->done_) return;
    connected ? self->begin() : self->finish(std::unexpected(connected.error()));
  });
}

void HandoffReceiver::cancel() {
  if (std::exchange(cancelled_, true) || transport_ == nullptr) return;
  finish(error(ErrorCode::kCancelled, "the handoff was cancelled"));
}

void HandoffReceiver::begin() {
  const protocol::KvDescriptor& d = plan_.descriptor;
  const protocol::KvLayout& layout = plan_.pool.layout;
  const std::optional<Transport> wire = transport_->transport_to(d.boot_id);
  const bool viewed = wire == Transport::kSharedMemory || wire == Transport::kInProcess;
  pieces_ = plan_.block_fixed ? RangePieces::per_block(layout, d.tokens, viewed)
                              : RangePieces::contiguous(
                                    layout, d.tokens, viewed ? kViewedBytes : kPieceBytes, viewed);
  reader_.emplace(plan_.pool, plan_.table, KvRangeTicket{d.epoch, d.read_key, d.tokens});
  stats_.bytes = Bytes(0);
  stats_.pieces = 0;
  ask();
}

void HandoffReceiver::ask() {
  while (asked_ < (plan_.block_fixed ? kBlocksAsked : kPiecesAsked)) {
    const std::optional<RangePiece> piece = pieces_->next();
    if (!piece) break;
    ++asked_;
    if (!plan_.block_fixed) {
      pull(*piece);
      continue;
    }
    // What a paged sender does: a message for every block, answered, before the block itself.
    transport_->connect(peer(), [self = shared_from_this(), piece = *piece,
                                 attempt = attempt_](const Status& answered) {
      if (!self->done_ || attempt != self->attempt_) return;
      answered ? self->pull(piece) : self->finish(std::unexpected(answered.error()));
    });
  }
  if (asked_ == 0) finish(stats_);
}

void HandoffReceiver::pull(const RangePiece& piece) {
  const protocol::KvDescriptor& d = plan_.descriptor;
  const auto id = std::make_shared<KvTransport::PullId>();
  *id = transport_->pull(peer(), {d.region_key, d.offset + piece.offset, piece.size},
                         [self = shared_from_this(), piece, id,
                          attempt = attempt_](const Result<std::span<const std::byte>>& bytes) {
                           self->pulls_.erase(*id);
                           self->on_piece(attempt, piece, bytes);
                         });
  pulls_.insert(*id);
}

void HandoffReceiver::on_piece(int attempt, const RangePiece& piece,
                               const Result<std::span<const std::byte>>& bytes) {
  if (!done_ || attempt != attempt_) return;
  --asked_;
  if (!bytes) return finish(std::unexpected(bytes.error()));
  ++stats_.pieces;
  stats_.bytes += piece.size;
  const Status taken = take(piece, *bytes);
  if (taken) return ask();
  if (taken.error().code == ErrorCode::kCorrupt) return try_again(taken.error());
  finish(std::unexpected(taken.error()));
}

Status HandoffReceiver::take(const RangePiece& piece, std::span<const std::byte> bytes) {
  const auto header = static_cast<std::size_t>(piece.header.value());
  if (piece.again) return reader_->header_again(bytes);
  if (header > 0) {
    if (Status checked = reader_->header(bytes.first(header)); !checked) return checked;
  }
  if (Status fed = reader_->feed(bytes.subspan(header)); !fed) return fed;
  // All in one piece, maybe in the peer's memory: the header is still in view.
  if (header > 0 && reader_->complete()) return reader_->header_again(bytes.first(header));
  return {};
}

void HandoffReceiver::try_again(const Error& reason) {
  if (++stats_.integrity_failures > 1) return finish(std::unexpected(reason));
  ++attempt_;
  asked_ = 0;
  drop_pulls();
  begin();
}

void HandoffReceiver::drop_pulls() {
  for (const KvTransport::PullId id : std::exchange(pulls_, {})) transport_->cancel(id);
}

void HandoffReceiver::notify(protocol::HandoffOutcome outcome) {
  const protocol::KvDescriptor& d = plan_.descriptor;
  const std::string message =
      encode(protocol::HandoffMessage{plan_.id, d.epoch, d.read_key, outcome});
  transport_->notify(peer(), std::as_bytes(std::span(message)), nullptr);
}

void HandoffReceiver::finish(Result<HandoffStats> result) {
  if (!done_) return;
  using protocol::HandoffOutcome;
  drop_pulls();
  if (result) {
    notify(HandoffOutcome::kDone);
  } else if (result.error().code == ErrorCode::kCorrupt) {
    notify(HandoffOutcome::kFailed);
  }
  // Cancelled or unreachable: P learns it from the gateway, or is gone.
  std::exchange(done_, nullptr)(std::move(result));
}

}  // namespace pd::transfer
