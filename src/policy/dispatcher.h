// The gateway's decisions for one group: which request goes to which P and D and when, what happens
// when a worker says busy, dies or falls silent. Pure: shown events, polled for actions, told the
// time. Gateway and simulator drive the same object.
//
// Main path: submit() -> SendPrefill -> on_accepted -> on_tokens, on_prefilled -> SendDecode ->
// on_accepted -> on_joined -> on_tokens ... -> Finish. Requests that find no place wait here,
// earliest TTFT deadline first, and are woken by a leg that ends, a hint that passes or a topology
// change: never by polling.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <variant>
#include <vector>

#include "base/role.h"
#include "base/time.h"
#include "base/units.h"
#include "policy/request.h"
#include "policy/worker_pool.h"

namespace pd::policy {

// A member of the group as the topology tells it. WorkerIds are never reused: a restarted worker is
// another one.
struct Member {
  WorkerId worker;
  Role role = Role::kNone;
  int slots = 0;         // of a P
  int batch_places = 0;  // of a D
  bool admits = true;    // false: draining; what it holds goes on
  bool operator==(const Member&) const = default;
};

struct DispatcherOptions {
  WorkerPoolOptions pool;
  RequestLimits request;
  // Leases last 5 s on workers; renewing ten times as often also notices a silent worker in time
  // (G1: 3 s).
  Duration renew_every{std::chrono::milliseconds(500)};
  Duration silent_after{std::chrono::milliseconds(2000)};
  // How long a role may have no worker at all, or none that answers, before requests are told so
  // (503): above a replacement's start.
  Duration empty_patience{std::chrono::seconds(20)};
};

struct Deadlines {
  Time first_token;  // still waiting for a P at this time: ends as kBusy
  Time total;        // the absolute deadline
};

struct SendPrefill {
  RequestId request;
  LegNumber leg = 0;
  WorkerId worker;
};
struct SendDecode {
  RequestId request;
  LegNumber leg = 0;
  WorkerId worker;
};
struct Cancel {
  RequestId request;
  LegNumber leg = 0;
  WorkerId worker;
};
struct Finish {
  RequestId request;
  RequestEnd end;
};
// Renew these leases and see whether the worker answers (on_heard).
struct Renew {
  struct Held {
    RequestId request;
    LegNumber leg = 0;
  };
  WorkerId worker;
  std::vector<Held> held;
};
using DispatchAction = std::variant<SendPrefill, SendDecode, Cancel, Finish, Renew>;

class Dispatcher {
 public:
  explicit Dispatcher(const DispatcherOptions& options);

  // The whole membership. A member that is missing has gone: its legs are faults.
  void on_topology(const std::vector<Member>& members, Time now);

  // `preferred`: the P whose prefix cache probably has the prompt, used among equals.
  void submit(RequestId request, const Deadlines& deadlines, std::optional<WorkerId> preferred,
              Time now);
  void cancel(RequestId request, Time now);  // the client left

  // Reports of legs; stale ones change nothing.
  void on_accepted(RequestId request, LegNumber leg, Time now);
  void on_rejected(RequestId request, LegNumber leg, Duration hint, Time now);
  // False: drop the tokens, they are stale or doubled.
  bool on_tokens(RequestId request, LegNumber leg, std::uint32_t index, std::uint32_t count,
                 bool finished, Time now);
  void on_prefilled(RequestId request, LegNumber leg, Time now);
  void on_joined(RequestId request, LegNumber leg, Time now);
  void on_released(RequestId request, LegNumber leg, bool pulled, Time now);
  void on_evicted(RequestId request, LegNumber leg, Time now);
  // The leg broke. `worker_fault`: the worker is to blame (connection lost, internal error), not
  // the request.
  void on_fault(RequestId request, LegNumber leg, const Error& fault, bool worker_fault, Time now);

  // The worker answered a renewal; it does not know the legs in `unknown` any more.
  void on_heard(WorkerId worker, const std::vector<Renew::Held>& unknown, Time now);

  std::vector<DispatchAction> poll(Time now);
  std::optional<Time> next_deadline() const;

  const RequestLife* find(RequestId request) const;  // until its Finish was polled
  std::size_t in_flight() const { return requests_.size(); }
  std::size_t waiting() const { return wait_prefill_.size() + wait_decode_.size(); }
  // Workers that did not answer in time as of the last poll: not asked until they do.
  int silent() const { return silent_; }
  // When a place for a new request is expected, for Retry-After.
  Duration expected_wait(Time now) const;

 private:
  struct Request {
    RequestLife life;
    Deadlines deadlines;
    std::optional<WorkerId> preferred;
    std::uint64_t order = 0;
    // As last accounted in pools and links; after() compares them with what `life` holds now.
    std::optional<RequestLife::Leg> counted_prefill, counted_decode;
  };
  struct Link {  // what we know of a worker's answering
    bool outstanding = false;
    Time asked{};  // when the oldest unanswered renewal left
    Time next{};   // when to renew again
    bool silent = false;
    std::set<std::pair<RequestId, LegNumber>> held;
    std::set<std::pair<RequestId, LegNumber>> unknown;  // to the worker, as of its last answer
  };
  // Since when a role has nobody to serve it; none: it has.
  struct Vacancy {
    std::optional<Time> empty;  // no member of that role admits; Time{}: since before any request
    std::optional<Time> deaf;   // members were asked, and none has answered since
    // When requests are told, told that nothing changes; nullopt: not in sight.
    std::optional<Time> ends(Duration patience) const;
  };
  using WaitKey = std::pair<Time, std::uint64_t>;  // deadline, then order of arrival

  // Runs `event` on the request's life if it still exists, then brings the books in line with it.
  template <typename Event>
  void with(RequestId id, Time now, Event&& event);
  void settle(RequestId id, Request& request, Time now);
  void file(RequestId id, const Request& request);
  void unfile(const Request& request);
  void count_leg(RequestId id, std::optional<RequestLife::Leg>& counted,
                 const std::optional<RequestLife::Leg>& held, Role role, Time now);
  void worker_faulted(WorkerId worker, Time now);
  void note_deaf(WorkerId worker, Time now);
  void worker_answered(WorkerId worker);
  void fail_worker(WorkerId worker, const Error& fault, Time now);
  void place_prefills(Time now);
  void place_decodes(Time now);
  void end_overdue(Time now);
  void check_links(Time now);
  WorkerPool& pool(Role role) { return role == Role::kPrefill ? prefill_ : decode_; }
  Role role_of(WorkerId worker) const;

  DispatcherOptions options_;
  WorkerPool prefill_, decode_;
  std::map<WorkerId, Member> members_;
  std::map<WorkerId, Link> links_;
  std::map<RequestId, Request> requests_;
  std::map<WaitKey, RequestId> wait_prefill_, wait_decode_;
  std::set<std::pair<Time, RequestId>> totals_;
  Vacancy prefill_vacancy_, decode_vacancy_;
  Time last_freed_{};                                    // a P's place became free
  Duration freed_every_{std::chrono::milliseconds(50)};  // moving average between two of those
  std::vector<DispatchAction> actions_;
  std::uint64_t next_order_ = 0;
  int silent_ = 0;
  Time polled_at_{};
};

}  // namespace pd::policy
