// KvTransport over UCX: peers we pull from, peers that pull from us, and the loop over both.
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <cstring>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "transfer/kv_transport.h"
#include "transfer/pages.h"
#include "transfer/shared_memory.h"
#include "transfer/staging.h"
#include "transfer/ucx_endpoint.h"
#include "transfer/ucx_peer.h"
#include "transfer/ucx_wire.h"
#include "transfer/ucx_worker.h"

namespace pd::transfer {

namespace {

constexpr std::size_t kIncomingMax = 4096;
// UCX's progress is repeated while it finds work, but callbacks must get their turn.
constexpr int kProgressRoundsMax = 64;
// Tearing a connection down raises no event in every case; so while one is under way the loop looks
// again after this long.
constexpr Duration kTearDownPoll = std::chrono::milliseconds(20);
constexpr Duration kTearDownMax = std::chrono::seconds(1);

// A connection that a peer made to us.
struct Incoming {
  std::unique_ptr<UcxEndpoint> endpoint;
  BootId from;  // none before its hello
  Time hello_by;
  bool dropped = false;  // it broke the protocol
};

struct Exposed {
  std::span<const std::byte> bytes;  // as asked; the memory is rounded up to pages
  SharedMemory memory;
};

class UcxTransport final : public KvTransport {
 public:
  UcxTransport(BootId self, const UcxOptions& options)
      : self_(self), options_(options), staging_(options.staging_max) {}

  Status open() {
    wake_.reset(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!wake_) {
      return error(ErrorCode::kNoCapacity,
                   fmt::format("eventfd: {}; raise the limit of open files", std::strerror(errno)));
    }
    Result<std::unique_ptr<UcxWorker>> worker = UcxWorker::create(
        options_, [this](ucp_conn_request* request) { accept(request); },
        [this](MessageHeader header, ucp_ep* from, std::string_view bytes) {
          receive(header, from, bytes);
        });
    if (!worker) return std::unexpected(worker.error());
    worker_ = std::move(*worker);
    Result<ExposedRegion> identity = expose(Bytes(static_cast<std::int64_t>(kPageBytes)));
    if (!identity) return std::unexpected(identity.error());
    const std::uint64_t self = self_.value();
    std::memcpy(identity->memory.data(), &self, sizeof(self));
    identity_ = identity->key;
    return {};
  }

  ~UcxTransport() override {
    const Time give_up = SteadyTime::now() + kTearDownMax;
    for (auto& [id, peer] : peers_) closing_peers_.push_back(std::move(peer));
    for (auto& [handle, incoming] : incoming_) {
      closing_incoming_.push_back(std::move(incoming.endpoint));
    }
    peers_.clear();
    incoming_.clear();
    for (auto& peer : closing_peers_) {
      peer->end(Error{ErrorCode::kCancelled, "the KV transport ends"});
    }
    due_.clear();
    while (worker_ != nullptr && !tear_down() && SteadyTime::now() < give_up) {
      if (!worker_->progress() && worker_->arm()) sleep(SteadyTime::now() + kTearDownPoll);
    }
    due_.clear();
    if (closing_peers_.empty() && closing_incoming_.empty()) return;
    // Never seen; a leak at the end of a process is better than UCX using freed endpoints.
    log::error("KV transport: connections did not close; left to the end of the process");
    for (auto& peer : closing_peers_) (void)peer.release();
    for (auto& endpoint : closing_incoming_) (void)endpoint.release();
    (void)new std::vector<Exposed>(std::move(exposed_));
    (void)worker_.release();
  }

  PeerAddress address() const override { return {self_, encode(worker_->address())}; }

  Result<ExposedRegion> expose(Bytes size) override {
    if (size.value() <= 0) return error(ErrorCode::kInvalidArgument, "expose: size must be >= 1");
    Result<SharedMemory> memory = SharedMemory::create(size);
    if (!memory) return std::unexpected(memory.error());
    const auto bytes = static_cast<std::uint64_t>(size.value());
    const RegionKey key{.owner = self_,
                        .region = static_cast<std::uint32_t>(exposed_.size()),
                        .size = bytes,
                        .memory = memory->key()};
    ExposedRegion region{.memory = memory->bytes().first(bytes), .key = encode(key)};
    exposed_.push_back({region.memory, std::move(*memory)});
    return region;
  }

  void connect(const PeerAddress& peer, std::function<void(Status)> done) override {
    if (peer.boot_id == self_) {
      due_.emplace_back([done = std::move(done)] { done({}); });
      return;
    }
    peer_at(peer).add_connect(std::move(done));
  }

  void forget(BootId peer) override {
    const auto at = peers_.find(peer);
    if (at == peers_.end()) return;
    at->second->end(Error{ErrorCode::kUnavailable,
                          fmt::format("KV peer {} was given up", to_hex(peer.value()))});
    // Its pages may be in use by the callback that called this: taken down in progress().
    closing_peers_.push_back(std::move(at->second));
    peers_.erase(at);
  }

  PullId pull(const PeerAddress& peer, const RemoteRange& range, PullDone done) override {
    const PullId id = next_pull_++;
    auto pull = std::make_unique<Pull>();
    pull->id = id;
    pull->region_key = range.region_key;
    pull->offset = range.offset;
    pull->size = static_cast<std::uint64_t>(range.size.value());
    pull->done = std::move(done);
    if (Status valid = check_range(peer, range, *pull); !valid) {
      due_.emplace_back([done = std::move(pull->done), reason = valid.error()] {
        done(std::unexpected(reason));
      });
    } else if (peer.boot_id == self_) {
      const std::span<const std::byte> own = exposed_[pull->key.region].bytes;
      due_.emplace_back([done = std::move(pull->done),
                         view = own.subspan(pull->offset, pull->size)] { done(view); });
    } else {
      peer_at(peer).add_pull(std::move(pull));
    }
    return id;
  }

  void cancel(PullId pull) override {
    for (auto& [id, peer] : peers_) {
      if (peer->cancel(pull)) return;
    }
  }

  void notify(const PeerAddress& peer, std::span<const std::byte> message,
              std::function<void(Status)> done) override {
    if (message.size() > kNotifyBytesMax) {
      if (!done) return;
      due_.emplace_back([done = std::move(done)] {
        done(error(ErrorCode::kInvalidArgument, "notify: a message is at most 4096 bytes"));
      });
      return;
    }
    std::string bytes(reinterpret_cast<const char*>(message.data()), message.size());
    if (peer.boot_id != self_) return peer_at(peer).add_message(std::move(bytes), std::move(done));
    due_.emplace_back([this, bytes = std::move(bytes), done = std::move(done)] {
      if (handler_) handler_(self_, std::as_bytes(std::span(bytes)));
      if (done) done({});
    });
  }

  void on_notify(NotifyHandler handler) override { handler_ = std::move(handler); }

  void progress(std::optional<Time> limit) override {
    while (true) {
      const Time begin = SteadyTime::now();
      for (int i = 0; i < kProgressRoundsMax && worker_->progress(); ++i) {
      }
      const Time now = SteadyTime::now();
      take_messages();
      step_peers(now, begin - std::exchange(listened_until_, now));
      const bool called_back = run_due();
      (void)tear_down();  // after the callbacks, which may look at a torn-down peer's memory
      if (drain_wake() || called_back || (limit && now >= *limit)) return;
      if (!worker_->arm()) continue;
      sleep(next_deadline(limit, now));
      listened_until_ = SteadyTime::now();
    }
  }

  void wake() override {
    const std::uint64_t one = 1;
    // A full counter means that a wake is pending already.
    (void)!::write(wake_.get(), &one, sizeof(one));
  }

  std::optional<Transport> transport_to(BootId peer) const override {
    if (peer == self_) return Transport::kInProcess;
    const auto at = peers_.find(peer);
    return at == peers_.end() ? std::nullopt : at->second->transport();
  }

 private:
  struct ReceivedMessage {
    MessageHeader header;
    ucp_ep* from;
    std::string bytes;
  };

  UcxPeer& peer_at(const PeerAddress& address) {
    std::unique_ptr<UcxPeer>& peer = peers_[address.boot_id];
    if (peer == nullptr) {
      peer = std::make_unique<UcxPeer>(UcxPeer::Host{self_, *worker_, staging_, due_, options_},
                                       address, SteadyTime::now());
    }
    return *peer;
  }

  Status check_range(const PeerAddress& peer, const RemoteRange& range, Pull& pull) const {
    Result<RegionKey> key = decode_region_key(range.region_key);
    if (!key) return error(ErrorCode::kInvalidArgument, key.error().message);
    if (key->owner != peer.boot_id) {
      return error(ErrorCode::kInvalidArgument, "pull: the region key is of another instance");
    }
    if (range.size.value() < 1 || range.offset > key->size ||
        pull.size > key->size - range.offset) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("pull: {} bytes at {} are not inside the region of {}",
                               range.size.value(), range.offset, key->size));
    }
    if (peer.boot_id == self_ &&
        (key->region >= exposed_.size() || exposed_[key->region].bytes.size() != key->size)) {
      return error(ErrorCode::kInvalidArgument, "pull: this instance exposes no such region");
    }
    pull.key = *key;
    return {};
  }

  void accept(ucp_conn_request* request) {
    if (incoming_.size() >= kIncomingMax) {
      log::warn("KV transfer: connection refused, {} are open", incoming_.size());
      return worker_->reject(request);
    }
    Result<std::unique_ptr<UcxEndpoint>> endpoint = UcxEndpoint::accept(*worker_, request);
    if (!endpoint) {
      log::info("KV transfer: connection not accepted: {}", endpoint.error().message);
      return;
    }
    ucp_ep* handle = (*endpoint)->handle();
    incoming_.insert_or_assign(handle,
                               Incoming{.endpoint = std::move(*endpoint),
                                        .hello_by = SteadyTime::now() + options_.connect_timeout});
  }

  // Inside UCX: data is copied to its place at once, the rest waits for take_messages().
  void receive(MessageHeader header, ucp_ep* from, std::string_view bytes) {
    if (header.kind != MessageKind::kData && header.kind != MessageKind::kRefused) {
      messages_.push_back({header, from, std::string(bytes)});
      return;
    }
    const bool refused = header.kind == MessageKind::kRefused;
    if (UcxPeer* peer = peer_with(from)) {
      peer->on_data(header.id, refused ? std::nullopt : std::optional(bytes), SteadyTime::now());
    }
  }

  UcxPeer* peer_with(ucp_ep* handle) {
    for (auto& [id, peer] : peers_) {
      if (peer->handle() == handle) return peer.get();
    }
    return nullptr;
  }

  void take_messages() {
    for (ReceivedMessage& message : messages_) {
      if (message.header.kind == MessageKind::kWelcome) {
        if (UcxPeer* peer = peer_with(message.from)) peer->on_welcome(message.bytes);
        continue;
      }
      if (message.header.kind == MessageKind::kPong) {
        if (UcxPeer* peer = peer_with(message.from)) peer->on_pong(message.header.id);
        continue;
      }
      const auto at = incoming_.find(message.from);
      if (at == incoming_.end()) continue;  // it was closed meanwhile
      if (message.header.kind == MessageKind::kHello) {
        take_hello(at->second, message.bytes);
      } else if (at->second.from == BootId()) {
        drop(at->second, "speaks before its hello, or to another instance");
      } else if (message.header.kind == MessageKind::kRead) {
        serve(at->second, message.header.id, message.bytes);
      } else if (message.header.kind == MessageKind::kPing) {
        at->second.endpoint->send({MessageKind::kPong, message.header.id}, {}, [](Status) {});
      } else if (message.bytes.size() <= kNotifyBytesMax) {
        due_.emplace_back([this, from = at->second.from, bytes = std::move(message.bytes)] {
          if (handler_) handler_(from, std::as_bytes(std::span(bytes)));
        });
      }
    }
    messages_.clear();
  }

  void drop(Incoming& incoming, const char* why) {
    if (incoming.dropped) return;
    incoming.dropped = true;
    log::warn("KV transfer: a connection was dropped: it {}", why);
  }

  // Answers a read with the bytes where they lie, or refuses it.
  void serve(Incoming& incoming, std::uint64_t id, const std::string& bytes) {
    const Result<ReadRequest> read = decode_read(bytes);
    if (!read) return drop(incoming, "sends damaged reads");
    if (incoming.endpoint->in_flight() >= kPiecesServedMax) {
      return drop(incoming, "asks for more at a time than it may");
    }
    std::optional<std::span<const std::byte>> found;
    if (read->region < exposed_.size()) {
      const std::span<const std::byte> region = exposed_[read->region].bytes;
      if (read->offset <= region.size() && read->size <= region.size() - read->offset) {
        found = region.subspan(read->offset, read->size);
      }
    }
    if (found) {
      incoming.endpoint->send_view({MessageKind::kData, id}, *found, [](Status) {});
    } else {
      incoming.endpoint->send({MessageKind::kRefused, id}, {}, [](Status) {});
    }
  }

  void take_hello(Incoming& incoming, const std::string& bytes) {
    Result<Hello> hello = decode_hello(bytes);
    if (!hello || incoming.from != BootId()) return drop(incoming, "has no proper hello");
    // Somebody who looks for our predecessor learns that it is gone, and may not speak to us.
    if (hello->to == self_) incoming.from = hello->from;
    incoming.endpoint->send({MessageKind::kWelcome},
                            encode(Welcome{.self = self_, .identity = identity_}), [](Status) {});
  }

  // `unheard`: time since the last look that was not spent listening, but in callbacks or outside.
  void step_peers(Time now, Duration unheard) {
    for (auto at = peers_.begin(); at != peers_.end();) {
      at->second->step(now, unheard);
      if (at->second->ended()) {
        log::info("KV transfer: {}", at->second->reason()->message);
        closing_peers_.push_back(std::move(at->second));
        at = peers_.erase(at);
      } else {
        ++at;
      }
    }
    for (auto at = incoming_.begin(); at != incoming_.end();) {
      Incoming& incoming = at->second;
      incoming.hello_by += unheard;
      const bool silent = incoming.from == BootId() && now >= incoming.hello_by;
      if (incoming.endpoint->failure() || incoming.dropped || silent) {
        closing_incoming_.push_back(std::move(incoming.endpoint));
        at = incoming_.erase(at);
      } else {
        ++at;
      }
    }
  }

  // Closes what is to be closed; true when nothing is left of it.
  bool tear_down() {
    std::erase_if(closing_peers_, [](auto& peer) { return peer->torn_down(); });
    std::erase_if(closing_incoming_, [](auto& endpoint) {
      endpoint->close();
      return endpoint->closed();
    });
    return closing_peers_.empty() && closing_incoming_.empty();
  }

  bool run_due() {
    bool any = false;
    for (; !due_.empty(); any = true) {
      std::move_only_function<void()> next = std::move(due_.front());
      due_.pop_front();
      next();
    }
    return any;
  }

  bool drain_wake() {
    std::uint64_t count = 0;
    return ::read(wake_.get(), &count, sizeof(count)) > 0;
  }

  std::optional<Time> next_deadline(std::optional<Time> limit, Time now) const {
    std::optional<Time> next = limit;
    const auto consider = [&next](std::optional<Time> at) {
      if (at && (!next || *at < *next)) next = at;
    };
    for (const auto& [id, peer] : peers_) consider(peer->deadline());
    for (const auto& [handle, incoming] : incoming_) {
      if (incoming.from == BootId()) consider(incoming.hello_by);
    }
    if (!closing_peers_.empty() || !closing_incoming_.empty()) consider(now + kTearDownPoll);
    return next;
  }

  void sleep(std::optional<Time> until) {
    pollfd descriptors[] = {{worker_->event_fd(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    timespec timeout = {};
    if (until) {
      const Duration left = std::max(Duration(0), *until - SteadyTime::now());
      timeout.tv_sec = left / std::chrono::seconds(1);
      timeout.tv_nsec = (left % std::chrono::seconds(1)).count();
    }
    // Interrupted or failed: the caller looks around and comes back.
    (void)::ppoll(descriptors, 2, until ? &timeout : nullptr, nullptr);
  }

  BootId self_;
  UcxOptions options_;
  UniqueFd wake_;
  std::unique_ptr<UcxWorker> worker_;
  std::vector<Exposed> exposed_;  // by region number
  std::string identity_;          // key of the page that shows our boot id
  Staging staging_;
  DueCallbacks due_;
  NotifyHandler handler_;
  Time listened_until_ = SteadyTime::now();
  std::vector<ReceivedMessage> messages_;  // since the last look
  std::map<BootId, std::unique_ptr<UcxPeer>> peers_;
  std::map<ucp_ep*, Incoming> incoming_;
  std::vector<std::unique_ptr<UcxPeer>> closing_peers_;
  std::vector<std::unique_ptr<UcxEndpoint>> closing_incoming_;
  PullId next_pull_ = 1;
};

}  // namespace

Result<std::unique_ptr<KvTransport>> make_ucx_transport(BootId self, const UcxOptions& options) {
  auto transport = std::make_unique<UcxTransport>(self, options);
  if (Status opened = transport->open(); !opened) return std::unexpected(opened.error());
  return transport;
}

}  // namespace pd::transfer
