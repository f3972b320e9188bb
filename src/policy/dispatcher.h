// The gateway's decisions for one group: which request goes to which P and D and when, what happens
// when a worker says busy, dies or falls silent. Pure: shown events, polled for actions, told the
// time. Gateway and simulator drive the same object.
//
// Main path: submit() -> SendPrefill -> on_accepted -> on_tokens, on_prefilled -> SendDecode ->
// on_accepted -> on_joined -> on_tokens ... -> Finish. Requests that find no place wait here, in
// the order of WaitingLine, and are woken by a leg that ends, a hint that passes or a topology
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
#include "policy/decode_rooms.h"
#include "policy/instance_links.h"
#include "policy/linear_cost.h"
#include "policy/place_turnover.h"
#include "policy/prefix_affinity.h"
#include "policy/request.h"
#include "policy/request_record.h"
#include "policy/retry_budget.h"
#include "policy/waiting_line.h"
#include "policy/whole_service.h"
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
  Tokens kv_max{0};      // that a D's whole memory holds; 0: not known
  bool operator==(const Member&) const = default;
};

struct DispatcherOptions {
  WorkerPoolOptions pool;
  RequestLimits request;
  LinkOptions links;
  WaitingLineOptions waiting;
  RetryBudgetOptions retries;
  WholeOptions whole;  // for groups that have aggregated instances beside others
  // How long a role may have no worker at all, or none that answers, before requests are told so
  // (503): above a replacement's start.
  Duration empty_patience{std::chrono::seconds(20)};
  // A prefill without a first token for this long, and for three times what its length is expected
  // to take, gets a second one on another P, as far as the retry budget goes. 0: never.
  Duration hedge_after{};
  // What a D says of its room holds for so long: other gateways use it, too.
  Duration room_holds{std::chrono::milliseconds(250)};
  // A prompt is not prefilled while it is expected to wait for a place on a D longer than this
  // after its first token: its stream would stall, and its KV would keep others out of P. Long
  // enough that a D whose requests are short always finds the next ones ready.
  Duration decode_patience{std::chrono::seconds(2)};
  std::size_t prefixes_max = 1 << 17;  // remembered blocks of prompts, some 80 bytes each
  std::uint64_t seed = 0;              // this gateway's own: several must not choose alike
};

struct Deadlines {
  // Still waiting for a P when too little time is left for its prefill, as measured: ends as kBusy.
  Time first_token;
  Time total;  // the absolute deadline
};

struct Submission {
  RequestId request;
  Deadlines deadlines;
  TenantId tenant;
  int priority = 0;  // among its tenant's
  Tokens prompt{1};
  Tokens output_max{1};               // max_tokens
  std::vector<std::uint64_t> prefix;  // prefix_hashes of the prompt
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
  RequestRecord record;
};
using DispatchAction = std::variant<SendPrefill, SendDecode, Cancel, Finish, Renew>;

class Dispatcher {
 public:
  explicit Dispatcher(const DispatcherOptions& options);

  // The whole membership. A member that is missing has gone: its legs are faults.
  void on_topology(const std::vector<Member>& members, Time now);

  void set_weight(TenantId tenant, double weight) { wait_prefill_.set_weight(tenant, weight); }
  void submit(Submission submission, Time now);
  void cancel(RequestId request, Time now);  // the client left
  // Its client reads another choice of the same answer already: it waits beyond the TTFT limit.
  void on_answer_begun(RequestId request);

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
  // The leg broke; `blame`: what that says of its worker.
  void on_fault(RequestId request, LegNumber leg, const Error& fault, Blame blame, Time now);

  // The way to the worker is lost, or cannot be opened; it is open again. Its legs are told of one
  // by one.
  void on_unreachable(WorkerId worker, Time now);
  void on_reachable(WorkerId worker);

  // What P measured of its own work, before its first token.
  void on_prefill_measured(Tokens computed, Duration took) { whole_.on_prefilled(computed, took); }
  // The worker rejected a leg before, and a place has become free there.
  void on_vacant(WorkerId worker);
  // What a D says of its memory; before the answer that it came with.
  void on_room(WorkerId worker, const DecodeRoom& room, Time now);

  // The worker answered a renewal; it does not know the legs in `unknown` any more.
  void on_heard(WorkerId worker, const std::vector<Renew::Held>& unknown, Time now);

  std::vector<DispatchAction> poll(Time now);
  std::optional<Time> next_deadline();

  // Until its Finish was polled; the time in its present phase is not in the record yet.
  const RequestLife* find(RequestId request) const;
  std::optional<RequestRecord> record(RequestId request, Time now) const;
  std::size_t in_flight() const { return requests_.size(); }
  std::size_t waiting() const { return wait_prefill_.size() + wait_decode_.size(); }
  // Placements after the first, of all requests so far.
  std::uint64_t restarts() const { return restarts_; }
  // Workers that did not answer in time as of the last poll: not asked until they do.
  int silent() const { return links_.silent(); }
  // When a place for a new request is expected, for Retry-After: those that wait come before it,
  // less those whose time will be over before their turn.
  Duration expected_wait(Time now);

 private:
  struct CountedLeg {
    RequestLife::Leg leg;
    Time accepted{};
  };
  struct Request {
    RequestLife life;
    Submission asked;
    std::uint64_t order = 0;
    RequestRecord record;
    Time phase_since;
    int retries_paid = 0;                              // of the life's charged restarts
    bool waits_prefill = false, waits_decode = false;  // as filed
    Waiter waiter;                                     // as filed
    // As last accounted in pools and links; settle() compares them with what `life` holds now.
    std::optional<CountedLeg> counted_prefill, counted_hedge, counted_decode;
    std::optional<Time> hedge_at;  // as filed
    bool hedged = false;           // in this placement
    bool awaits_decode = false;    // as counted
    bool answered = false;         // on_answer_begun()
    Time prefill_accepted{};
    std::vector<WorkerId> tried;  // P's that have rejected it in this round, in order of id
    std::optional<WorkerId> prefilling_at;                        // as counted in prefilling_
    std::optional<std::pair<WorkerId, DecodeDemand>> unanswered;  // a decode leg on its way
  };
  // Since when a role has nobody to serve it; none: it has.
  struct Vacancy {
    std::optional<Time> empty;  // no member of that role admits; Time{}: since before any request
    std::optional<Time> deaf;   // members failed or fell silent, none of them works
    // When requests are told, told that nothing changes; nullopt: not in sight.
    std::optional<Time> ends(Duration patience) const;
    bool unserved() const { return empty || deaf; }
  };
  using WaitKey = std::pair<Time, std::uint64_t>;  // deadline, then order of arrival

  // Runs `event` on the request's life if it still exists, then brings the books in line with it.
  template <typename Event>
  void with(RequestId id, Time now, Event&& event);
  void settle(RequestId id, Request& request, Time now);
  void enter_phase(Request& request, RequestPhase before, Time now);
  void file(RequestId id, Request& request);
  Duration reserve(const Request& request) const;
  void unfile(Request& request);
  void count_leg(Request& request, std::optional<CountedLeg>& counted,
                 const std::optional<RequestLife::Leg>& held, Role role, Time now);
  void worker_faulted(WorkerId worker, Time now);
  void note_deaf(WorkerId worker, Time now);
  // Nobody has waited: what was long ago says nothing.
  static void wait_anew(Vacancy& vacancy, const WorkerPool& pool, Time now);
  bool nobody_serves() const { return prefill_vacancy_.unserved() || decode_vacancy_.unserved(); }
  void worker_answered(WorkerId worker);
  void fail_worker(WorkerId worker, const Error& fault, Time now);
  void place_prefills(Time now);
  void grant_retry(RequestId id);
  void place_decodes(Time now);
  void note_decode_answers(Request& request);
  void note_prefilling(Request& request);
  void file_hedge(RequestId id, Request& request, Time now);
  void hedge_slow_prefills(Time now);
  void end_overdue(Time now);
  void check_links(Time now);
  bool place_prefill(RequestId id, Time now);  // false: nobody has a place
  // A round: each P is asked once. When none is left, those whose hints have passed are asked anew.
  std::optional<WorkerId> choose_prefill(Request& request, Time now);
  std::optional<WorkerId> choose_of_kind(const Submission& asked, Preference preference, Time now);
  WholeSide side_of(bool whole, const Submission& asked, Time now) const;
  Duration wait_for_place(Time now) const;
  PlaceTurnover& turnover(Role role) {
    return role == Role::kPrefill ? prefill_turnover_ : decode_turnover_;
  }
  static DecodeDemand demand_of(const Request& request);
  std::set<WorkerId> too_small_for(const Request& request) const;
  bool decode_in_time(const Request& request, Time now) const;
  void note_awaiting_decode(Request& request);
  WorkerPool& pool(Role role) { return role == Role::kPrefill ? prefill_ : decode_; }
  Role role_of(WorkerId worker) const;

  DispatcherOptions options_;
  WorkerPool prefill_, decode_;
  DecodeRooms rooms_;
  std::map<WorkerId, Member> members_;
  InstanceLinks links_;
  PrefixAffinity prefixes_;
  RetryBudget retries_;
  WholeService whole_;
  // From a prompt's sending to its first token.
  LinearCost first_token_{std::chrono::milliseconds(1), std::chrono::microseconds(50)};
  std::map<WorkerId, Tokens> prefilling_;  // of prompts without a first token yet
  std::map<RequestId, Request> requests_;
  WaitingLine wait_prefill_;
  std::map<WaitKey, RequestId> wait_decode_;
  std::set<std::pair<Time, RequestId>> totals_;
  std::set<std::pair<Time, RequestId>> hedges_;  // when a prefill under way has become slow
  Vacancy prefill_vacancy_, decode_vacancy_;
  PlaceTurnover prefill_turnover_, decode_turnover_;
  int awaiting_decode_ = 0;  // prefilling with more tokens to come, or waiting for a D
  // Why some of those that wait were not placed in the last poll: no D takes the first of them in
  // time; the budget had no grant.
  bool held_back_ = false, budget_spent_ = false;
  std::optional<Duration> expected_wait_;  // as of the last poll
  std::vector<DispatchAction> actions_;
  std::uint64_t next_order_ = 0, restarts_ = 0;
  Time polled_at_{};
};

template <typename Event>
void Dispatcher::with(RequestId id, Time now, Event&& event) {
  const auto it = requests_.find(id);
  if (it == requests_.end()) return;
  const RequestPhase before = it->second.life.phase();
  event(it->second.life);
  enter_phase(it->second, before, now);
  settle(id, it->second, now);
}

}  // namespace pd::policy
