#include "transfer/ucx_peer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/text.h"

namespace pd::transfer {

namespace {

// Enough to hide the round trip; few enough that a peer that stops answering is noticed soon, and
// that the owner of the memory has little queued for us.
static_assert(kPiecesAskedMax <= kPiecesServedMax);
// An instance exposes one region, or a few; each costs a mapping here.
constexpr std::size_t kRegionsMax = 16;
constexpr std::size_t kMessagesMax = 4096;

}  // namespace

UcxPeer::UcxPeer(const Host& host, const PeerAddress& address, Time now)
    : host_(host),
      id_(address.boot_id),
      connect_by_(now + host.options.connect_timeout),
      answered_(now) {
  Result<SocketAddress> socket = decode_address(address.blob);
  if (!socket) {
    reason_ = socket.error();
    return;
  }
  Result<std::unique_ptr<UcxEndpoint>> endpoint = UcxEndpoint::connect(host_.worker, *socket);
  if (!endpoint) {
    reason_ = endpoint.error();
    return;
  }
  endpoint_ = std::move(*endpoint);
  endpoint_->send({MessageKind::kHello}, encode(Hello{.from = host_.self, .to = id_}),
                  [](Status) {});
}

void UcxPeer::add_connect(std::function<void(Status)> done) {
  if (state_ == State::kReady) return ping(std::move(done));
  connects_.push_back(std::move(done));
}

// A connection that stands says nothing about now: its end may not have reached us yet.
void UcxPeer::ping(std::function<void(Status)> done) {
  const std::uint64_t id = next_id_++;
  pings_.emplace(id, std::move(done));
  endpoint_->send({MessageKind::kPing, id}, {}, [](Status) {});
}

void UcxPeer::on_pong(std::uint64_t id) {
  const auto at = pings_.find(id);
  if (at == pings_.end()) return;
  host_.due.emplace_back([done = std::move(at->second)] { done({}); });
  pings_.erase(at);
}

void UcxPeer::add_pull(std::unique_ptr<Pull> pull) { pulls_.push_back(std::move(pull)); }

void UcxPeer::add_message(std::string message, std::function<void(Status)> done) {
  if (messages_.size() < kMessagesMax) {
    messages_.push_back({std::move(message), std::move(done)});
  } else if (done) {
    host_.due.emplace_back([done = std::move(done)] {
      done(error(ErrorCode::kNoCapacity, "notify: too many messages wait for this peer"));
    });
  }
}

bool UcxPeer::cancel(KvTransport::PullId pull) {
  const auto at = std::find_if(pulls_.begin(), pulls_.end(),
                               [pull](const auto& candidate) { return candidate->id == pull; });
  if (at == pulls_.end()) return false;
  std::unique_ptr<Pull> cancelled = std::move(*at);
  pulls_.erase(at);
  finish(std::move(cancelled), error(ErrorCode::kCancelled, "pull cancelled"));
  return true;
}

void UcxPeer::on_welcome(std::string_view bytes) {
  if (state_ != State::kConnecting) return;
  Result<Welcome> welcome = decode_welcome(bytes);
  if (!welcome) return end(Error{ErrorCode::kUnavailable, welcome.error().message});
  if (welcome->self != id_) {
    return end(Error{ErrorCode::kUnavailable,
                     fmt::format("KV peer {} is gone: instance {} answers at its address",
                                 to_hex(id_.value()), to_hex(welcome->self.value()))});
  }
  if (Status identity = check_identity(welcome->identity); !identity) {
    return end(identity.error());
  }
  state_ = State::kReady;
  for (auto& done : connects_) host_.due.emplace_back([done = std::move(done)] { done({}); });
  connects_.clear();
}

// Finds out whether the peer's memory can be viewed from here, by viewing the page it offers.
Status UcxPeer::check_identity(const std::string& identity) {
  Result<RegionKey> key = decode_region_key(identity);
  if (!key) return std::unexpected(Error{ErrorCode::kUnavailable, key.error().message});
  std::uint64_t seen = 0;
  if (key->owner != id_ || key->size < sizeof(seen)) {
    return error(ErrorCode::kUnavailable, "KV peer: its identity page is not its own");
  }
  const bool try_it = host_.options.wires != Wires::kTcp;
  const std::optional<SharedView> page =
      try_it ? SharedView::open(key->memory, key->size) : std::nullopt;
  if (!page) {
    if (host_.options.wires == Wires::kSharedMemory) {
      return error(ErrorCode::kUnavailable,
                   fmt::format("KV peer {} shares no memory with this process (another host, "
                               "container or user); allow tcp",
                               to_hex(id_.value())));
    }
    transport_ = host_.worker.network();
    return {};
  }
  std::memcpy(&seen, page->bytes().data(), sizeof(seen));
  if (BootId(seen) != id_) {
    return error(ErrorCode::kUnavailable, "KV peer: its identity page shows another instance");
  }
  transport_ = Transport::kSharedMemory;
  return {};
}

void UcxPeer::step(Time now, Duration unheard) {
  if (state_ == State::kEnded) return;
  connect_by_ += unheard;
  answered_ = std::min(now, answered_ + unheard);
  if (reason_) return end(*reason_);
  if (endpoint_->failure()) {
    return end(Error{ErrorCode::kUnavailable, fmt::format("KV peer {}: {}", to_hex(id_.value()),
                                                          endpoint_->failure()->message)});
  }
  if (!owes()) answered_ = now;  // silence counts from the next operation on
  if (state_ == State::kReady) {
    send_messages();
    pump_pulls();
  }
  if (state_ == State::kEnded) return;
  if (const std::optional<Time> silent_at = deadline(); silent_at && now >= *silent_at) {
    end(Error{ErrorCode::kUnavailable,
              fmt::format("KV peer {} did not {} for {:.1f} s", to_hex(id_.value()),
                          state_ == State::kConnecting ? "answer the connection" : "answer",
                          to_seconds(host_.options.connect_timeout))});
  }
}

std::optional<Time> UcxPeer::deadline() const {
  if (state_ == State::kConnecting) return connect_by_;
  if (state_ == State::kReady && owes()) {
    return answered_ + host_.options.connect_timeout;
  }
  return std::nullopt;
}

void UcxPeer::send_messages() {
  while (!messages_.empty()) {
    Message message = std::move(messages_.front());
    messages_.pop_front();
    endpoint_->send({MessageKind::kNotify}, std::move(message.bytes),
                    [due = &host_.due, done = std::move(message.done)](Status status) mutable {
                      if (!done) return;
                      due->emplace_back([done = std::move(done), status] { done(status); });
                    });
  }
}

void UcxPeer::pump_pulls() {
  for (auto at = pulls_.begin(); at != pulls_.end();) {
    Pull& pull = **at;
    if (!pull.view && pull.staged.empty()) {
      if (Status started = start(pull); !started) {
        std::unique_ptr<Pull> refused = std::move(*at);
        at = pulls_.erase(at);
        finish(std::move(refused), std::unexpected(started.error()));
        continue;
      }
      if (!pull.view && pull.staged.empty()) break;  // waits for staging memory
    }
    if (!pull.view) ask_pieces(pull);
    if (!pull.view && pull.asked < pull.size) break;  // the window is full
    ++at;
  }
  if (reason_) return;  // a piece was refused: its pull is not finished, the peer is
  while (!pulls_.empty() && pulls_.front()->finished()) {
    std::unique_ptr<Pull> pull = std::move(pulls_.front());
    pulls_.pop_front();
    const std::span<const std::byte> bytes =
        pull->view ? *pull->view : pull->staged.memory().first(pull->size);
    finish(std::move(pull), bytes);
  }
}

// Finds the bytes or a place for them. Neither, and no error: there is no place yet.
Status UcxPeer::start(Pull& pull) {
  if (transport_ == Transport::kSharedMemory) {
    const Result<std::span<const std::byte>> region = view_of(pull.region_key, pull.key);
    if (!region) return std::unexpected(region.error());
    pull.view = region->subspan(pull.offset, pull.size);
    return {};
  }
  const Bytes size(static_cast<std::int64_t>(pull.size));
  if (size > host_.staging.budget()) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("pull: {} bytes are above the staging memory of {}; pull them in "
                             "parts or raise it",
                             pull.size, host_.staging.budget().value()));
  }
  if (std::optional<Pages> pages = host_.staging.take(size)) {
    pull.staged = std::move(*pages);
  } else if (host_.staging.taken() == Bytes(0)) {
    return error(ErrorCode::kNoCapacity, fmt::format("pull: no memory for {} bytes", pull.size));
  }
  return {};
}

void UcxPeer::ask_pieces(Pull& pull) {
  while (pull.asked < pull.size && pieces_.size() < kPiecesAskedMax) {
    const auto size =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(kReadBytesMax, pull.size - pull.asked));
    const std::uint64_t id = next_id_++;
    pieces_.emplace(id, Piece{&pull, pull.asked, size});
    const ReadRequest read{
        .region = pull.key.region, .offset = pull.offset + pull.asked, .size = size};
    pull.asked += size;
    endpoint_->send({MessageKind::kRead, id}, encode(read), [this](Status status) {
      if (!status && !reason_) reason_ = status.error();
    });
  }
}

void UcxPeer::on_data(std::uint64_t id, std::optional<std::string_view> bytes, Time now) {
  const auto at = pieces_.find(id);
  if (at == pieces_.end()) return;
  const Piece piece = at->second;
  pieces_.erase(at);
  answered_ = now;
  if (piece.pull == nullptr) return;
  if (!bytes || bytes->size() != piece.size) {
    reason_ = Error{
        ErrorCode::kUnavailable,
        fmt::format("KV peer {} does not hold the memory that its key names", to_hex(id_.value()))};
    return;
  }
  std::memcpy(piece.pull->staged.memory().data() + piece.at, bytes->data(), piece.size);
  piece.pull->arrived += piece.size;
}

Result<std::span<const std::byte>> UcxPeer::view_of(const std::string& name, const RegionKey& key) {
  const auto known = views_.find(name);
  if (known != views_.end()) return known->second.bytes();
  if (views_.size() >= kRegionsMax) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("pull: a peer may expose at most {} regions", kRegionsMax));
  }
  std::optional<SharedView> view = SharedView::open(key.memory, key.size);
  if (!view) {
    return error(ErrorCode::kUnavailable,
                 fmt::format("KV peer {} is gone, or its region is not what its key says",
                             to_hex(id_.value())));
  }
  return views_.emplace(name, std::move(*view)).first->second.bytes();
}

// Hands the pull's outcome to its owner.
void UcxPeer::finish(std::unique_ptr<Pull> pull, Result<std::span<const std::byte>> outcome) {
  for (auto& [id, piece] : pieces_) {
    if (piece.pull == pull.get()) piece.pull = nullptr;
  }
  host_.due.emplace_back(
      [pull = std::move(pull), outcome = std::move(outcome), staging = &host_.staging] {
        pull->done(outcome);
        staging->give_back(std::move(pull->staged));
      });
}

void UcxPeer::end(const Error& reason) {
  if (state_ == State::kEnded) return;
  state_ = State::kEnded;
  reason_ = reason;
  const auto answer = [this](std::function<void(Status)>& done) {
    if (!done) return;
    host_.due.emplace_back(
        [done = std::move(done), reason = *reason_] { done(std::unexpected(reason)); });
  };
  for (auto& done : connects_) answer(done);
  for (Message& message : messages_) answer(message.done);
  for (auto& [id, done] : pings_) answer(done);
  connects_.clear();
  messages_.clear();
  pings_.clear();
  for (auto& pull : pulls_) finish(std::move(pull), std::unexpected(*reason_));
  pulls_.clear();
}

bool UcxPeer::torn_down() {
  views_.clear();
  if (!endpoint_) return true;
  endpoint_->close();
  return endpoint_->closed();
}

}  // namespace pd::transfer
