// D: serves decode legs. Reserves blocks or rejects at once, pulls the KV on the transfer thread
// while the batch goes on, scatters it into the blocks, lets the request join the next step,
// streams its tokens.
//
// Threads: loop thread except where said. Blocks of a request are written by the transfer thread
// until Joined, by the engine thread afterwards, and released only when neither can touch them any
// more.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "base/bounded_queue.h"
#include "base/metrics.h"
#include "engine/decode_engine.h"
#include "engine/text_stage.h"
#include "legs/gathered_tokens.h"
#include "legs/leg_server.h"
#include "net/event_loop.h"
#include "policy/kv_blocks.h"
#include "policy/place_turnover.h"
#include "policy/turns.h"
#include "protocol/kv_descriptor.h"
#include "protocol/pd_messages.h"
#include "transfer/handoff_receiver.h"
#include "worker/engine_runtime.h"
#include "worker/leases.h"
#include "worker/transfer_thread.h"

namespace pd::worker {

struct DecodeServiceOptions {
  int batch = 32;
  BlockCount blocks;
  Duration lease{std::chrono::seconds(5)};
  Duration pull_limit{std::chrono::seconds(10)};  // a pull that takes longer is given up
  bool block_fixed = false;                       // the measured baseline: one pull per block
  int threads = 1;
};

class DecodeService {
 public:
  // Errors: kNoCapacity (the KV pool's memory). All references outlive it.
  static Result<std::unique_ptr<DecodeService>> create(net::EventLoop& loop,
                                                       TransferThread& transfer,
                                                       const LoadedModel& loaded,
                                                       const DecodeServiceOptions& options,
                                                       Metrics& metrics);
  ~DecodeService();

  void handle(protocol::DecodeRequest request, legs::LegReply leg);
  void renew(const std::vector<protocol::AttemptId>& list,
             std::vector<protocol::AttemptId>& unknown) {
    leases_.renew(list, unknown);
  }

  void drain() { draining_ = true; }
  int requests() const { return static_cast<int>(held_.size()); }
  int places() const { return options_.batch; }
  BlockCount blocks_total() const { return pool_.blocks(); }
  BlockCount blocks_used();
  protocol::Room room();
  std::uint64_t steps() const { return steps_.load(std::memory_order_relaxed); }

 private:
  enum class Phase : std::uint8_t { kPulling, kDecoding };
  struct Held {
    Phase phase = Phase::kPulling;
    bool given_up = false;  // waits for its writer to let go of the blocks
    std::shared_ptr<legs::LegReply> reply;
    Time accepted;
    std::shared_ptr<transfer::HandoffReceiver> receiver;  // transfer thread only
    protocol::DecodeRequest request;
    Time deadline;
  };
  struct Admit {
    engine::DecodeJob job;
    TokenId prompt_last = 0;
    bool streamed = true;
  };
  struct Remove {
    policy::Holder id;
  };
  using Command = std::variant<Admit, Remove>;
  // What one step did to one request.
  struct Progress {
    policy::Holder id;
    std::vector<protocol::Frame> frames;
    bool over = false;      // the engine has let go of it
    bool finished = false;  // its output ended by itself
    bool evicted = false;   // its blocks are released already
  };

  DecodeService(net::EventLoop& loop, TransferThread& transfer, const LoadedModel& loaded,
                engine::KvPool pool, const DecodeServiceOptions& options, Metrics& metrics);
  std::optional<Error> refusal(const protocol::DecodeRequest& request,
                               const protocol::KvDescriptor& descriptor) const;
  void start_pull(const policy::Holder& id, const protocol::KvDescriptor& descriptor);
  void on_pulled(const policy::Holder& id, const Result<transfer::HandoffStats>& result);
  void join(const policy::Holder& id, Held& held);
  void on_progress(const std::vector<Progress>& step);
  // By value: the caller's may be the key of what goes.
  void give_up(policy::Holder id, std::optional<protocol::Frame> last);
  void release(policy::Holder id, bool finished, bool blocks_gone);
  Duration hint();

  // Engine thread.
  void engine_loop();
  void take(Command command, std::vector<Progress>& out);
  Progress advance(const engine::DecodeEvent& event, Time now);
  void report(std::vector<Progress> step);

  net::EventLoop& loop_;
  TransferThread& transfer_;
  const LoadedModel& loaded_;
  DecodeServiceOptions options_;
  engine::KvPool pool_;
  // Guards blocks_: the loop thread must answer at once from the true state, so a queue to the
  // engine thread would be a step too late. Held for bookkeeping only, never during a forward pass.
  std::mutex blocks_mutex_;
  policy::KvBlocks blocks_;
  Leases leases_;
  std::map<policy::Holder, Held> held_;
  policy::PlaceTurnover turnover_;
  policy::Turns<legs::LegPeer> turns_;
  bool draining_ = false;
  Counter rejected_, evicted_, integrity_failures_;

  // The engine thread's own.
  EngineRuntime runtime_;
  engine::DecodeEngine engine_;
  struct Output {
    engine::TextStage text;
    bool logprobs = false;
    std::optional<legs::GatheredTokens> gathered;  // unless it is streamed
  };
  std::map<policy::Holder, Output> outputs_;
  std::atomic<std::uint64_t> steps_{0};
  std::atomic<std::int64_t> step_ns_{0};  // the last step's time
  BoundedQueue<Command> inbox_;
  std::shared_ptr<std::atomic<bool>> alive_;
  std::jthread thread_;
};

}  // namespace pd::worker
