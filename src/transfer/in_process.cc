// The transport between threads of one process: pulls are views of the owner's memory, messages go
// through a bounded inbox per transport.
#include <fmt/format.h>

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/text.h"
#include "transfer/kv_transport.h"
#include "transfer/pages.h"

namespace pd::transfer {

namespace {

constexpr std::size_t kMessageBytesMax = 4096;
constexpr std::size_t kInboxMessagesMax = 4096;

struct Message {
  BootId from;
  std::vector<std::byte> bytes;
};

struct Region {
  Pages pages;
  std::size_t size = 0;  // as asked; the pages are rounded up
};

// One transport as the others see it. The mutex guards everything: what other threads leave here is
// a few messages and a flag, and the sleeper must see both under one condition variable.
struct Node {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Message> inbox;
  bool woken = false;
  // A view may outlive the transport that owns the memory: the puller holds the region during its
  // callback.
  std::map<std::string, std::shared_ptr<const Region>> regions;
};

}  // namespace

// Who is there. The mutex guards a map that many threads read and few change.
class InProcessHub {
 public:
  std::shared_ptr<Node> join(BootId self) {
    const std::scoped_lock lock(mutex_);
    const auto [at, fresh] = nodes_.emplace(self, std::make_shared<Node>());
    CHECK(fresh);  // boot ids are random; two equal ones are a bug of the caller
    return at->second;
  }
  void leave(BootId self) {
    const std::scoped_lock lock(mutex_);
    nodes_.erase(self);
  }
  std::shared_ptr<Node> find(BootId peer) {
    const std::scoped_lock lock(mutex_);
    const auto at = nodes_.find(peer);
    return at == nodes_.end() ? nullptr : at->second;
  }

 private:
  std::mutex mutex_;
  std::map<BootId, std::shared_ptr<Node>> nodes_;
};

namespace {

std::unexpected<Error> gone(BootId peer) {
  return error(ErrorCode::kUnavailable,
               fmt::format("KV peer {} is not in this process", to_hex(peer.value())));
}

class InProcessTransport final : public KvTransport {
 public:
  InProcessTransport(std::shared_ptr<InProcessHub> hub, BootId self)
      : hub_(std::move(hub)), self_(self), node_(hub_->join(self)) {}
  ~InProcessTransport() override { hub_->leave(self_); }

  PeerAddress address() const override { return {self_, "in-process"}; }

  Result<ExposedRegion> expose(Bytes size) override {
    if (size.value() <= 0) return error(ErrorCode::kInvalidArgument, "expose: size must be >= 1");
    Result<Pages> pages = Pages::create(size);
    if (!pages) return std::unexpected(pages.error());
    ExposedRegion region{.memory = pages->memory().first(static_cast<std::size_t>(size.value())),
                         .key = fmt::format("{}:{}", to_hex(self_.value()), next_region_++)};
    const std::scoped_lock lock(node_->mutex);
    node_->regions.emplace(region.key, std::make_shared<const Region>(
                                           Region{std::move(*pages), region.memory.size()}));
    return region;
  }

  void connect(const PeerAddress& peer, std::function<void(Status)> done) override {
    ready_.push_back([this, id = peer.boot_id, done = std::move(done)] { done(reach(id)); });
  }

  void forget(BootId peer) override {
    known_.erase(peer);
    for (auto& [id, pull] : pulls_) {
      if (pull.peer == peer) pull.ended = gone(peer).error();
    }
  }

  PullId pull(const PeerAddress& peer, const RemoteRange& range, PullDone done) override {
    const PullId id = next_pull_++;
    pulls_.emplace(id, Pull{peer.boot_id, range, std::move(done), std::nullopt});
    ready_.push_back([this, id] { finish_pull(id); });
    return id;
  }

  void cancel(PullId pull) override {
    const auto at = pulls_.find(pull);
    if (at != pulls_.end()) at->second.ended = Error{ErrorCode::kCancelled, "pull cancelled"};
  }

  void notify(const PeerAddress& peer, std::span<const std::byte> message,
              std::function<void(Status)> done) override {
    Status status = send(peer.boot_id, message);
    if (done) ready_.push_back([done = std::move(done), status] { done(status); });
  }

  void on_notify(NotifyHandler handler) override { handler_ = std::move(handler); }

  void progress(std::optional<Time> limit) override {
    std::deque<Message> messages;
    {
      std::unique_lock lock(node_->mutex);
      const auto stirred = [this] {
        return node_->woken || !node_->inbox.empty() || !ready_.empty();
      };
      if (limit) {
        node_->changed.wait_until(
            lock, std::chrono::steady_clock::time_point(limit->time_since_epoch()), stirred);
      } else {
        node_->changed.wait(lock, stirred);
      }
      node_->woken = false;
      messages.swap(node_->inbox);
    }
    for (const Message& message : messages) {
      if (handler_) handler_(message.from, message.bytes);
    }
    // Callbacks may add to the queue; what they add waits for the next call.
    for (std::size_t n = ready_.size(); n > 0; --n) {
      const std::function<void()> next = std::move(ready_.front());
      ready_.pop_front();
      next();
    }
  }

  void wake() override {
    const std::scoped_lock lock(node_->mutex);
    node_->woken = true;
    node_->changed.notify_one();
  }

  std::optional<Transport> transport_to(BootId peer) const override {
    return known_.contains(peer) ? std::optional(Transport::kInProcess) : std::nullopt;
  }

 private:
  struct Pull {
    BootId peer;
    RemoteRange range;
    PullDone done;
    std::optional<Error> ended;  // cancelled or forgotten before it ran
  };

  Status reach(BootId peer) {
    if (hub_->find(peer) == nullptr) return gone(peer);
    known_.insert(peer);
    return {};
  }

  Status send(BootId peer, std::span<const std::byte> message) {
    if (message.size() > kMessageBytesMax) {
      return error(ErrorCode::kInvalidArgument, "notify: a message is at most 4096 bytes");
    }
    const std::shared_ptr<Node> node = hub_->find(peer);
    if (node == nullptr) return gone(peer);
    known_.insert(peer);
    const std::scoped_lock lock(node->mutex);
    if (node->inbox.size() >= kInboxMessagesMax) {
      return error(ErrorCode::kNoCapacity,
                   "notify: the peer's inbox is full; it does not progress");
    }
    node->inbox.push_back({self_, {message.begin(), message.end()}});
    node->changed.notify_one();
    return {};
  }

  void finish_pull(PullId id) {
    const auto at = pulls_.find(id);
    const Pull pull = std::move(at->second);
    pulls_.erase(at);
    if (pull.ended) return pull.done(std::unexpected(*pull.ended));
    const std::shared_ptr<Node> node = hub_->find(pull.peer);
    if (node == nullptr) return pull.done(gone(pull.peer));
    known_.insert(pull.peer);
    std::shared_ptr<const Region> owned;
    {
      const std::scoped_lock lock(node->mutex);
      const auto region = node->regions.find(pull.range.region_key);
      if (region != node->regions.end()) owned = region->second;
    }
    if (owned == nullptr) {
      return pull.done(error(ErrorCode::kInvalidArgument, "pull: no region has this key"));
    }
    const std::uint64_t size = owned->size;
    const auto wanted = static_cast<std::uint64_t>(pull.range.size.value());
    if (pull.range.size.value() < 1 || pull.range.offset > size ||
        wanted > size - pull.range.offset) {
      return pull.done(error(ErrorCode::kInvalidArgument,
                             fmt::format("pull: {} bytes at {} are not inside the region of {}",
                                         pull.range.size.value(), pull.range.offset, size)));
    }
    pull.done(owned->pages.memory().subspan(pull.range.offset, wanted));
  }

  std::shared_ptr<InProcessHub> hub_;
  BootId self_;
  std::shared_ptr<Node> node_;
  NotifyHandler handler_;
  std::deque<std::function<void()>> ready_;
  std::map<PullId, Pull> pulls_;
  std::set<BootId> known_;
  PullId next_pull_ = 1;
  std::uint64_t next_region_ = 0;
};

}  // namespace

std::shared_ptr<InProcessHub> make_in_process_hub() { return std::make_shared<InProcessHub>(); }

std::unique_ptr<KvTransport> make_in_process_transport(std::shared_ptr<InProcessHub> hub,
                                                       BootId self) {
  return std::make_unique<InProcessTransport>(std::move(hub), self);
}

}  // namespace pd::transfer
