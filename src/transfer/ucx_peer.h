// Everything held for one peer we pull from or notify: the connection, its handshake, the pulls and
// messages under way. A peer ends once, for one reason, and takes all of that with it; the next
// pull makes a new one.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "transfer/kv_transport.h"
#include "transfer/shared_memory.h"
#include "transfer/staging.h"
#include "transfer/ucx_endpoint.h"
#include "transfer/ucx_wire.h"
#include "transfer/ucx_worker.h"

namespace pd::transfer {

// Pieces of 192 KiB that one peer asks another for at a time, and that are served at most.
inline constexpr std::size_t kPiecesAskedMax = 16;
inline constexpr int kPiecesServedMax = 64;

// Users' callbacks that are due; the transport runs them outside of UCX.
using DueCallbacks = std::deque<std::move_only_function<void()>>;

// One pull() and the bytes that have arrived for it.
struct Pull {
  KvTransport::PullId id = 0;
  std::string region_key;  // as given; `key` is its decoded form
  RegionKey key;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  KvTransport::PullDone done;

  std::optional<std::span<const std::byte>> view;  // of the peer's memory
  Pages staged;                                    // or a copy under way
  std::uint64_t asked = 0;
  std::uint64_t arrived = 0;
  bool finished() const { return view || arrived == size; }
};

class UcxPeer {
 public:
  // What a peer uses of its transport; outlives it.
  struct Host {
    BootId self;
    UcxWorker& worker;
    Staging& staging;
    DueCallbacks& due;
    const UcxOptions& options;
  };

  // Begins to connect. An address that cannot be used ends the peer at the first step().
  UcxPeer(const Host& host, const PeerAddress& address, Time now);

  void add_connect(std::function<void(Status)> done);
  void add_pull(std::unique_ptr<Pull> pull);
  void add_message(std::string message, std::function<void(Status)> done);
  bool cancel(KvTransport::PullId pull);  // false: not here (any more)
  void on_welcome(std::string_view bytes);
  // The answer to a read: nullopt is a refusal. Answers that nobody waits for are dropped.
  void on_data(std::uint64_t id, std::optional<std::string_view> bytes, Time now);
  void on_pong(std::uint64_t id);

  // Posts what can be posted; notices failure and silence. `unheard`: how long nobody listened
  // since the last step; that is not the peer's silence.
  void step(Time now, Duration unheard);
  // When step() is due without an event.
  std::optional<Time> deadline() const;

  // Ends everything outstanding with `reason`. Later calls do nothing.
  void end(const Error& reason);
  bool ended() const { return state_ == State::kEnded; }
  const std::optional<Error>& reason() const { return reason_; }
  // After end(), outside of callbacks: true when nothing is left and the peer may be destroyed.
  bool torn_down();

  BootId id() const { return id_; }
  ucp_ep* handle() const { return endpoint_ ? endpoint_->handle() : nullptr; }
  std::optional<Transport> transport() const { return transport_; }

 private:
  enum class State : std::uint8_t { kConnecting, kReady, kEnded };
  struct Message {
    std::string bytes;
    std::function<void(Status)> done;
  };

  // Part of a pull that the peer owes.
  struct Piece {
    Pull* pull = nullptr;  // null: it was cancelled
    std::uint64_t at = 0;
    std::uint32_t size = 0;
  };
  bool owes() const { return !pieces_.empty() || !pings_.empty() || endpoint_->in_flight() > 0; }
  void ping(std::function<void(Status)> done);

  Status check_identity(const std::string& identity);
  void send_messages();
  void pump_pulls();
  Status start(Pull& pull);
  void ask_pieces(Pull& pull);
  Result<std::span<const std::byte>> view_of(const std::string& name, const RegionKey& key);
  void finish(std::unique_ptr<Pull> pull, Result<std::span<const std::byte>> outcome);

  Host host_;
  BootId id_;
  State state_ = State::kConnecting;
  std::optional<Error> reason_;
  std::unique_ptr<UcxEndpoint> endpoint_;
  std::optional<Transport> transport_;
  std::map<std::string, SharedView> views_;            // of its regions, by key
  std::vector<std::function<void(Status)>> connects_;  // wait for the welcome
  std::map<std::uint64_t, std::function<void(Status)>> pings_;
  std::deque<Message> messages_;
  std::list<std::unique_ptr<Pull>> pulls_;  // in the order they were made
  std::map<std::uint64_t, Piece> pieces_;   // asked for, by id
  std::uint64_t next_id_ = 1;
  Time connect_by_;
  Time answered_;  // when the peer last did something, or when it began to owe an answer
};

}  // namespace pd::transfer
