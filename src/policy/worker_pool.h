// One gateway's picture of the workers of one role in one group: who may be asked next. Built from
// the topology and from this gateway's own observations only; the truth is the worker's accept or
// reject.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <ranges>
#include <span>
#include <vector>

#include "base/time.h"
#include "base/units.h"

namespace pd::policy {

// Which of several instances with a place is taken.
enum class Forwarding : std::uint8_t {
  kSpread,  // fewest open legs first: for engines that compute prompts in chunks, side by side
  kFill,    // the one that was asked last until it is full: for engines that compute whole batches
};

struct WorkerPoolOptions {
  Forwarding forwarding = Forwarding::kSpread;
  // An instance that probably has a prompt's prefix is taken although others have fewer open legs,
  // up to this many times the mean and one (bounded load). Without the one, a gateway with a few
  // legs on each would move prefixes about for nothing.
  double load_bound = 1.25;
  // A rejection without a usable hint blocks a worker for this long: one engine step of a small
  // model.
  Duration reject_pause{std::chrono::milliseconds(2)};
  // A hint is believed up to here: instances measure their prefills, and the longest take seconds.
  Duration reject_pause_max{std::chrono::seconds(5)};
  // A longer hint than this is looked into once, halfway: a place may have become free by a cancel.
  // Below, the look would cost more than it saves.
  Duration look_after{std::chrono::milliseconds(250)};
  Duration fault_pause{std::chrono::milliseconds(100)};  // doubles with each fault in a row
  Duration fault_pause_max{std::chrono::seconds(5)};
};

// What a request would like, among the instances that have a place.
struct Preference {
  std::optional<WorkerId> cached;   // probably has its prefix
  std::optional<WorkerId> avoid;    // has it already
  std::optional<bool> whole;        // this kind only: aggregated, or not
  std::uint64_t key = 0;            // orders equals; of a prefix: all
  bool by_key = false;              // `key` is a prefix's: the same on every gateway
  std::span<const WorkerId> tried;  // in order of id: have rejected it in this round
};

class WorkerPool {
 public:
  explicit WorkerPool(const WorkerPoolOptions& options) : options_(options) {}

  // `places`: slots of a P, batch places of a D. Known workers keep their state, others start
  // clean.
  // `whole`: aggregated.
  void upsert(WorkerId worker, int places, bool whole = false);
  void remove(WorkerId worker);
  bool contains(WorkerId worker) const { return workers_.contains(worker); }
  bool empty() const { return workers_.empty(); }
  auto workers() const { return std::views::keys(workers_); }
  bool mixed() const;  // aggregated ones and others

  // The worker to ask at `now`: not blocked, own open legs below its places, not tried. `cached`
  // within the bounded load; else, when spreading, the first for a prefix's key within the bounded
  // load; else by Forwarding; among equals the one whose last rejection, with
  // nothing accepted since, is longest ago; then the one that comes first for `key`.
  //
  // Who has rejected is asked by one leg at a time until it accepts one: what it says to the first
  // holds for those behind it, too.
  std::optional<WorkerId> choose(Time now, const Preference& preference) const;
  bool may_ask(WorkerId worker, Time now) const;
  bool any_free(Time now) const;
  // Earliest time at which a blocked worker may be asked again; nullopt: nothing but an event will
  // help.
  std::optional<Time> next_unblock(Time now) const;

  void on_sent(WorkerId worker);
  void on_accepted(WorkerId worker);
  // Busy: never a fault. After on_leg_ended() of the leg.
  void on_rejected(WorkerId worker, Duration hint, Time now);
  // `accepted`: frees a place as far as this gateway sees.
  void on_leg_ended(WorkerId worker, bool accepted);
  void on_vacant(WorkerId worker);  // it says so: its hint is over
  void on_fault(WorkerId worker, Time now);
  void on_answered(WorkerId worker);  // it works: forgets faults and silence
  void on_silent(WorkerId worker);    // not asked until it answers

  int open(WorkerId worker) const;
  int places(WorkerId worker) const;
  bool works(WorkerId worker) const;  // neither silent nor failing
  bool any_works() const;
  // When the first of those that can be asked has a place, by what they said last; `now`: one may.
  Time soonest(Time now) const;

 private:
  struct State {
    int places = 0;
    bool whole = false;
    int open = 0;
    int unanswered = 0;  // of these
    int faults_in_a_row = 0;
    bool silent = false;
    Time blocked_until{};
    std::optional<Time> hinted;    // when its last hint passes, if it is looked into before
    std::optional<Time> rejected;  // last, with nothing accepted since
  };
  bool within_bound(const State& state) const;
  static bool free(const State& state, Time now);
  Time last_rejection(const State& state, Time now) const;

  WorkerPoolOptions options_;
  std::map<WorkerId, State> workers_;
  int total_open_ = 0;
  std::optional<WorkerId> filling_;
};

}  // namespace pd::policy
