// Does what the dispatcher decides: begins prefill and decode legs on the channels to instances,
// reads their frames, renews leases, and tells each request's owner what came out. Holds the tokens
// of every request in flight, because a stream survives its instances (docs/life-of-a-request.md).
// Contains no decision. Loop thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/metrics.h"
#include "gateway/instance_channels.h"
#include "net/event_loop.h"
#include "net/http_client.h"
#include "policy/dispatcher.h"
#include "protocol/pd_messages.h"
#include "protocol/topology.h"

namespace pd::gateway {

// One request (one choice of an API request) to run.
struct Job {
  RequestId id;
  std::shared_ptr<const std::vector<TokenId>> prompt;
  protocol::SamplingParams sampling;
  policy::TenantId tenant;
  int priority = 0;  // among its tenant's
  std::uint64_t tenant_salt = 0;
  std::vector<std::uint64_t> prefix;  // policy::prefix_hashes of the prompt, with the salt
  policy::Deadlines deadlines;
  bool streamed = true;  // each token is wanted when it comes
};

// Called on the loop thread; the job's entry is gone when on_end runs.
struct JobObserver {
  std::function<void(const protocol::TokensFrame&)>
      on_tokens;  // each output token exactly once, in order
  std::function<void(const protocol::Prefilled&)> on_prefilled;  // of the first prefill only
  std::function<void(const policy::Finish&)> on_end;
};

class LegDriver {
 public:
  // `secret`: shared by all processes of the cluster, sent with every call. `gauge_labels`: of
  // gauges that do not add up over several drivers.
  LegDriver(net::EventLoop& loop, net::HttpClient& http, const policy::DispatcherOptions& options,
            std::string secret, Metrics& metrics, const Metrics::Labels& gauge_labels = {});
  ~LegDriver();

  void on_topology(const protocol::Topology& topology);
  void start(Job job, JobObserver observer);
  void cancel(RequestId id);
  void answer_begun(RequestId id) { dispatcher_.on_answer_begun(id); }
  void cancel_all();

  void set_weight(policy::TenantId tenant, double weight) {
    dispatcher_.set_weight(tenant, weight);
  }

  // Where a job's time has gone so far; none: it has ended.
  std::optional<policy::RequestRecord> record(RequestId id) const {
    return dispatcher_.record(id, loop_.now());
  }
  std::size_t in_flight() const { return jobs_.size(); }
  Duration expected_wait() { return dispatcher_.expected_wait(loop_.now()); }
  bool knows_instances() const { return !channels_.empty(); }
  // As far as known: a request that came now would be served. What the instances say when asked is
  // another matter.
  bool can_serve() const { return channels_.can_serve(); }

 private:
  struct Leg {
    WorkerId worker;
    bool prefill = false;
    bool hedge = false;      // a second prefill beside a slow one
    bool concluded = false;  // it has said how it ended
    std::string descriptor;  // of the KV that P holds
  };
  struct Running {
    Job job;
    JobObserver observer;
    std::vector<TokenId> emitted;
    std::string descriptor;  // of the prefill that counts, for the next decode leg
    bool prefilled_once = false;
    std::map<policy::LegNumber, Leg> legs;
  };
  struct Counters {
    Counters(Metrics& metrics, const Metrics::Labels& gauge_labels);
    Counter rejections, faults, restarts_evicted, restarts, handoff_bytes, handoffs, hedges,
        hedges_won, whole;
    Gauge waiting, silent;
    Histogram transfer_seconds;
  };

  void pump();
  void act(const policy::SendPrefill& action);
  void act(const policy::SendDecode& action);
  void act(const policy::Cancel& action);
  void act(const policy::Finish& action);
  void act(const policy::Renew& action);
  template <typename Message>
  void begin(WorkerId worker, bool prefill, const Message& message);
  void on_leg_frame(WorkerId worker, const protocol::LegFrame& frame);
  // False: nothing that the dispatcher would act upon has changed.
  void on_word(WorkerId worker, const protocol::Frame& frame);
  bool on_frame(const protocol::AttemptId& attempt, Running& running, Leg& leg,
                const protocol::Frame& frame);
  void on_channel_lost(WorkerId worker, const Error& error, bool again);
  void fault(RequestId id, policy::LegNumber number, const Error& error, policy::Blame blame);
  // The same without a word: one line tells of all legs of a channel.
  void give_up(RequestId id, policy::LegNumber number, const Error& error, policy::Blame blame);
  Leg* find(RequestId id, policy::LegNumber number);
  std::uint32_t time_left_ms(const Job& job) const;

  net::EventLoop& loop_;
  net::HttpClient& http_;
  policy::Dispatcher dispatcher_;
  std::string secret_;
  Counters counters_;
  std::uint64_t restarts_ = 0;  // counted so far
  std::uint64_t layout_hash_ = 0;
  InstanceChannels channels_;
  std::unordered_map<RequestId, Running> jobs_;  // looked up for every token
  std::set<net::HttpClient::CallId> renewals_;
  net::EventLoop::TimerId timer_ = 0;
  std::optional<Time> timer_at_;
  bool pumping_ = false;  // or reading frames: pump() only notes that it is wanted
  bool pump_again_ = false;
};

}  // namespace pd::gateway
