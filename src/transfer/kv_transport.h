// Moves bytes between instances: connect, expose, pull, notify. Implementations: UCX (shared
// memory, TCP, RDMA) and in-process memory for tests and for role `both`. No UCX type appears here.
//
// Threads: every call on one transport comes from one thread, the transfer thread; so do all
// callbacks, which run inside progress(). No call blocks except progress(limit) and expose().
// Callbacks may call every verb except progress(). Destroying a transport drops what is
// outstanding: its callbacks do not run, exposed memory and views end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"
#include "base/units.h"

namespace pd::transfer {

// How to reach an instance's transport: opaque to everyone but the transport. An instance is
// (address, boot id): a new boot id behind an old address is another peer (G4).
struct PeerAddress {
  BootId boot_id;
  std::string blob;  // at most 4 KiB
  bool operator==(const PeerAddress&) const = default;
};

// Memory that peers may pull from. Owned by the transport that exposed it, until it is destroyed.
struct ExposedRegion {
  std::span<std::byte> memory;  // page-aligned, zeroed
  std::string key;              // what a peer needs to pull; opaque, at most 1 KiB
};

struct RemoteRange {
  std::string region_key;    // ExposedRegion::key of the owner
  std::uint64_t offset = 0;  // bytes from the region's start
  Bytes size;
};

enum class Transport : std::uint8_t { kInProcess, kSharedMemory, kTcp, kRdma };
std::string_view to_string(Transport transport);

class KvTransport {
 public:
  using PullId = std::uint64_t;
  // On success the bytes: a direct view of the peer's memory (shared memory) or a staging copy;
  // valid during the call only. On failure: kUnavailable (peer gone, silent, or restarted under
  // another boot id; connection lost), kCancelled, kInvalidArgument (range or key).
  using PullDone = std::function<void(Result<std::span<const std::byte>>)>;
  // A message from a peer, in order per peer. `from` is the sender's boot id; content is untrusted.
  using NotifyHandler = std::function<void(BootId from, std::span<const std::byte> message)>;

  virtual ~KvTransport() = default;

  virtual PeerAddress address() const = 0;
  virtual Result<ExposedRegion> expose(Bytes size) = 0;

  // Makes (lazily) the connection and checks that the peer answers under this boot id, now: on a
  // standing connection too it costs a round trip. pull() and notify() connect by themselves; this
  // verb is for `check` and for group set-up. `done` runs once.
  virtual void connect(const PeerAddress& peer, std::function<void(Status)> done) = 0;
  // Drops everything held for that boot id; outstanding pulls from it fail with kUnavailable.
  virtual void forget(BootId peer) = 0;

  // Reads a range of a peer's exposed memory. `done` runs exactly once, also after cancel(). Pulls
  // from one peer that succeed do so in the order in which they were made.
  virtual PullId pull(const PeerAddress& peer, const RemoteRange& range, PullDone done) = 0;
  virtual void cancel(PullId pull) = 0;

  // At most 4 KiB, delivered at most once; `done` (optional) says whether it left without an error.
  virtual void notify(const PeerAddress& peer, std::span<const std::byte> message,
                      std::function<void(Status)> done) = 0;
  virtual void on_notify(NotifyHandler handler) = 0;

  // Runs callbacks. Returns when something happened, when wake() was called, or at `limit`. Sleeps
  // in the kernel when idle (no busy polling).
  virtual void progress(std::optional<Time> limit) = 0;
  virtual void wake() = 0;  // from any thread

  // What carries bytes from that peer; nullopt before the first connection.
  virtual std::optional<Transport> transport_to(BootId peer) const = 0;
};

// Which wires UCX may use. kAuto takes shared memory on one host and the fastest network otherwise.
enum class Wires : std::uint8_t { kAuto, kSharedMemory, kTcp };

struct UcxOptions {
  Wires wires = Wires::kAuto;
  // Network interface of the listener and of TCP ("lo", "eth0"); empty: lo. Never all of them:
  // UCX's wire knows no credential, whoever reaches it can read and write this process (G7).
  std::string interface;
  // A peer that is silent for that long while it owes an answer is gone; silent peers must be
  // noticed within 3 s (G1).
  Duration connect_timeout{std::chrono::seconds(2)};
  // Bound on the memory that pulled bytes are staged in where they cannot be viewed in place (TCP,
  // RDMA). A pull above it is refused; pulls that do not fit beside others wait.
  Bytes staging_max{256LL << 20};
};

Result<std::unique_ptr<KvTransport>> make_ucx_transport(BootId self, const UcxOptions& options);

// All transports made from one hub see each other; for tests and for role `both`.
class InProcessHub;
std::shared_ptr<InProcessHub> make_in_process_hub();
std::unique_ptr<KvTransport> make_in_process_transport(std::shared_ptr<InProcessHub> hub,
                                                       BootId self);

}  // namespace pd::transfer
