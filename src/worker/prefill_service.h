// P: serves prefill legs. Accepts or rejects at once from its true state, computes on the engine
// thread, holds the KV in the send buffer under a lease until D has pulled it.
//
// Threads: everything here runs on the loop thread except PrefillThread::loop. A range of the send
// buffer belongs to the engine from acceptance until its event, then to the peer that pulls, and is
// reused only after release().
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "base/bounded_queue.h"
#include "base/metrics.h"
#include "base/rng.h"
#include "engine/prefill_engine.h"
#include "engine/text_stage.h"
#include "legs/leg_server.h"
#include "net/event_loop.h"
#include "policy/slots.h"
#include "policy/turns.h"
#include "protocol/handoff_message.h"
#include "protocol/kv_descriptor.h"
#include "protocol/pd_messages.h"
#include "transfer/kv_range.h"
#include "transfer/send_buffer.h"
#include "worker/engine_runtime.h"
#include "worker/leases.h"
#include "worker/transfer_thread.h"

namespace pd::worker {

struct PrefillServiceOptions {
  policy::SlotsOptions slots;
  int chunk_tokens = 256;
  Bytes send_buffer;
  Bytes prefix_cache;
  Duration lease{std::chrono::seconds(5)};
  int threads = 1;
  std::uint64_t seed = 0;  // of read keys
};

// What the engine thread has finished for one job.
struct PrefillOutcome {
  engine::PrefillEvent event;
  std::string text;  // of the first token
  protocol::FinishReason finish = protocol::FinishReason::kNone;
  std::uint32_t index = 0;  // of the first token among all output
  bool logprobs = false;    // asked for
};

class PrefillService {
 public:
  // Exposes the send buffer (before the transfer thread runs) and builds the engine. All references
  // outlive it.
  static Result<std::unique_ptr<PrefillService>> create(net::EventLoop& loop,
                                                        TransferThread& transfer, BootId self,
                                                        const LoadedModel& loaded,
                                                        const transfer::ExposedRegion& region,
                                                        const PrefillServiceOptions& options,
                                                        Metrics& metrics);
  ~PrefillService();

  void handle(protocol::PrefillRequest request, legs::LegReply leg);
  // Of the leases in `list`, those that are not held here (any more).
  void renew(const std::vector<protocol::AttemptId>& list,
             std::vector<protocol::AttemptId>& unknown) {
    leases_.renew(list, unknown);
  }
  void on_notice(const protocol::HandoffMessage& notice);

  void drain() { draining_ = true; }
  // Of a region, beside what prompts need: the warm-up's own range.
  static Bytes warm_up_bytes(const protocol::KvLayout& layout);

  int slots_used() const { return slots_.used(); }
  int slots_total() const { return slots_.total(); }
  std::uint64_t steps() const { return steps_.load(std::memory_order_relaxed); }

 private:
  enum class Phase : std::uint8_t { kComputing, kCancelling, kHolding };
  struct Held {
    Phase phase = Phase::kComputing;
    std::shared_ptr<legs::LegReply> reply;
    std::uint64_t offset = 0;
    Bytes size;
    Tokens tokens;
    Time accepted;
    Epoch epoch;
    protocol::ReadKey read_key;
  };
  struct Add {
    engine::PrefillJob job;
    std::span<std::byte> range;  // header and KV
    Epoch epoch;
    protocol::ReadKey read_key;
  };
  struct Cancel {
    policy::Holder id;
  };
  using Command = std::variant<Add, Cancel>;

  PrefillService(net::EventLoop& loop, TransferThread& transfer, BootId self,
                 const LoadedModel& loaded, const transfer::ExposedRegion& region,
                 const PrefillServiceOptions& options, std::optional<engine::PrefixCache> cache,
                 Metrics& metrics);
  // Engine thread.
  void engine_loop();
  void take(Command command);
  PrefillOutcome conclude(engine::PrefillEvent event);
  void report(PrefillOutcome outcome);

  // Loop thread.
  struct NoPlace {
    Duration hint;
  };
  // A slot and the offset of a range.
  std::expected<std::uint64_t, NoPlace> take_place(const policy::Holder& id, bool warm_up,
                                                   Tokens tokens, Bytes size);
  std::optional<Error> refusal(const protocol::PrefillRequest& request, Tokens tokens,
                               Bytes size) const;
  void begin(const policy::Holder& id, protocol::PrefillRequest request, Held& held);
  void on_outcome(PrefillOutcome outcome);
  void hand_out(const policy::Holder& id, Held& held, PrefillOutcome outcome);
  // By value: the caller's may be the key of what goes.
  void close(policy::Holder id);
  void give_up(policy::Holder id, protocol::Released::Why why);
  void release(policy::Holder id, protocol::Released::Why why);
  std::span<std::byte> range_of(const Held& held) const;

  net::EventLoop& loop_;
  TransferThread& transfer_;
  BootId self_;
  const LoadedModel& loaded_;
  transfer::ExposedRegion region_;
  PrefillServiceOptions options_;
  policy::Slots slots_;
  policy::Turns<legs::LegPeer> turns_;
  Leases leases_;
  transfer::SendBuffer buffer_;
  // The one warm-up under way. It has a range of its own behind the buffer's, so that a P whose
  // slots all wait for a D can still warm that D up.
  std::optional<policy::Holder> warm_up_;
  Rng rng_;
  std::map<policy::Holder, Held> held_;
  bool draining_ = false;
  std::uint64_t next_epoch_ = 1;
  Counter rejected_;

  // The engine thread's own.
  std::optional<engine::PrefixCache> cache_;
  EngineRuntime runtime_;
  engine::PrefillEngine engine_;
  std::map<policy::Holder, Add> running_;  // what the engine works on
  std::atomic<std::uint64_t> steps_{0};
  BoundedQueue<Command> inbox_;
  std::shared_ptr<std::atomic<bool>> alive_;  // posted work checks it: the service may be gone
  std::jthread thread_;
};

}  // namespace pd::worker
