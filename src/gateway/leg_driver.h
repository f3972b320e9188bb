// Does what the dispatcher decides: sends prefill and decode legs over HTTP, reads their frames,
// renews leases, and tells each request's owner what came out. Holds the tokens of every request in
// flight, because a stream survives its instances (docs/life-of-a-request.md). Contains no
// decision. Loop thread only.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/metrics.h"
#include "gateway/token_streams.h"
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
  void cancel_all();

  void set_weight(policy::TenantId tenant, double weight) {
    dispatcher_.set_weight(tenant, weight);
  }

  // Where a job's time has gone so far; none: it has ended.
  std::optional<policy::RequestRecord> record(RequestId id) const {
    return dispatcher_.record(id, loop_.now());
  }
  std::size_t in_flight() const { return jobs_.size(); }
  Duration expected_wait() const { return dispatcher_.expected_wait(loop_.now()); }
  bool has_workers() const { return !addresses_.empty(); }

 private:
  struct Leg {
    net::HttpClient::CallId call = 0;
    WorkerId worker;
    bool prefill = false;
    bool hedge = false;   // a second prefill beside a slow one
    bool shared = false;  // its tokens come on the instance's token stream
    // The end of the output, which came on the leg's own stream before the tokens in front of it.
    std::optional<protocol::TokensFrame> early_end;
    bool accepted = false;
    bool concluded = false;  // said how it ended; the end of its stream is no news
    protocol::FrameReader reader;
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
    Counter rejections, faults, restarts_evicted, handoff_bytes, handoffs, hedges, hedges_won,
        whole;
    Gauge silent;
    Histogram transfer_seconds;
  };

  void pump();
  void act(const policy::SendPrefill& action);
  void act(const policy::SendDecode& action);
  void act(const policy::Cancel& action);
  void act(const policy::Finish& action);
  void act(const policy::Renew& action);
  void send(RequestId id, policy::LegNumber number, WorkerId worker, const char* target,
            bool prefill, std::string body);
  void on_bytes(RequestId id, policy::LegNumber number, std::string_view bytes);
  void on_leg_frame(const protocol::LegFrame& frame);
  void hold_end(RequestId id, policy::LegNumber number, Leg& leg,
                const protocol::TokensFrame& tokens);
  // False: nothing that the dispatcher would act upon has changed.
  bool on_frame(RequestId id, policy::LegNumber number, Leg& leg, const protocol::Frame& frame);
  void on_stream_end(RequestId id, policy::LegNumber number, const Status& status);
  void fault(RequestId id, policy::LegNumber number, Error error, bool worker_fault);
  void let_end(net::HttpClient::CallId call);
  void look_at_ending();
  void cut_late();
  Leg* find(RequestId id, policy::LegNumber number);
  std::uint32_t time_left_ms(const Job& job) const;
  net::HttpCall call_to(WorkerId worker, const char* target, std::string body) const;

  net::EventLoop& loop_;
  net::HttpClient& http_;
  policy::Dispatcher dispatcher_;
  std::string secret_;
  Counters counters_;
  std::uint64_t layout_hash_ = 0;
  std::map<WorkerId, net::HttpAddress> addresses_;
  std::unordered_map<RequestId, Running> jobs_;  // looked up for every token
  std::set<net::HttpClient::CallId> renewals_;
  TokenStreams token_streams_;
  std::shared_ptr<char> alive_ = std::make_shared<char>();  // timers that nobody cancels look at it
  bool tokens_changed_ = false;  // what came on them is news for the dispatcher
  // Calls of ended jobs, whose workers have only the end of the stream to send, and when they must
  // have; most have by then.
  std::deque<std::pair<Time, net::HttpClient::CallId>> ending_;
  net::EventLoop::TimerId ending_timer_ = 0;  // while there are any
  net::EventLoop::TimerId timer_ = 0;
  std::optional<Time> timer_at_;
  bool pumping_ = false;
  bool pump_again_ = false;
};

}  // namespace pd::gateway
