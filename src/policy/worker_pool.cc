#include "policy/worker_pool.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "policy/prefix_affinity.h"

namespace pd::policy {

void WorkerPool::upsert(WorkerId worker, int places, bool whole) {
  State& state = workers_[worker];
  state.places = places;
  state.whole = whole;
}

bool WorkerPool::mixed() const {
  const auto is_whole = [](const auto& entry) { return entry.second.whole; };
  return std::ranges::any_of(workers_, is_whole) && !std::ranges::all_of(workers_, is_whole);
}

void WorkerPool::remove(WorkerId worker) {
  const auto it = workers_.find(worker);
  if (it == workers_.end()) return;
  total_open_ -= it->second.open;
  workers_.erase(it);
  if (filling_ == worker) filling_.reset();
}

std::optional<WorkerId> WorkerPool::choose(Time now, const Preference& preference) const {
  const auto suits = [&](WorkerId id, const State& state) {
    return free(state, now) && id != preference.avoid &&
           (!preference.whole || *preference.whole == state.whole) &&
           !std::ranges::binary_search(preference.tried, id);
  };
  if (preference.cached) {
    const auto it = workers_.find(*preference.cached);
    if (it != workers_.end() && suits(it->first, it->second) && within_bound(it->second))
      return preference.cached;
  }
  // Where a prefix is, when this gateway has not sent it anywhere: where any other would send it.
  const bool by_key = preference.by_key && options_.forwarding == Forwarding::kSpread;
  std::optional<WorkerId> best;
  std::tuple<bool, int, Time, std::uint64_t> best_rank;
  for (const auto& [id, state] : workers_) {
    if (!suits(id, state)) continue;
    std::tuple rank{options_.forwarding == Forwarding::kFill && filling_ != id, state.open,
                    last_rejection(state, now), ~rendezvous_score(preference.key, id)};
    if (by_key) {
      auto& [other, open, rejected, order] = rank;
      other = !within_bound(state);
      if (!other) open = 0, rejected = {};
    }
    if (!best || rank < best_rank) {
      best = id;
      best_rank = rank;
    }
  }
  return best;
}

// What was longer ago than any hint reaches says nothing: at low load, whoever rejected last would
// be left out for good.
Time WorkerPool::last_rejection(const State& state, Time now) const {
  const bool recent = state.rejected && now - *state.rejected < options_.reject_pause_max;
  return recent ? *state.rejected : Time{};
}

// With this request the worker would have at most load_bound times its share, and one: where a
// share is a leg or two, one more is chance.
bool WorkerPool::within_bound(const State& state) const {
  const double share = (total_open_ + 1.0) / static_cast<double>(workers_.size());
  return state.open + 1 <= std::ceil(options_.load_bound * share) + 1;
}

bool WorkerPool::free(const State& state, Time now) {
  return !state.silent && state.blocked_until <= now && state.open < state.places &&
         !(state.rejected && state.unanswered > 0);
}

bool WorkerPool::may_ask(WorkerId worker, Time now) const {
  const auto it = workers_.find(worker);
  return it != workers_.end() && free(it->second, now);
}

bool WorkerPool::any_free(Time now) const {
  return std::ranges::any_of(workers_,
                             [now](const auto& entry) { return free(entry.second, now); });
}

std::optional<Time> WorkerPool::next_unblock(Time now) const {
  std::optional<Time> next;
  for (const auto& [id, state] : workers_) {
    if (!state.silent && state.blocked_until > now && (!next || state.blocked_until < *next))
      next = state.blocked_until;
  }
  return next;
}

void WorkerPool::on_sent(WorkerId worker) {
  const auto it = workers_.find(worker);
  if (it == workers_.end()) return;
  ++it->second.open;
  ++it->second.unanswered;
  ++total_open_;
  filling_ = worker;  // not when it accepts: by then a burst has been sent
}

void WorkerPool::on_accepted(WorkerId worker) {
  const auto it = workers_.find(worker);
  if (it == workers_.end()) return;
  State& state = it->second;
  if (state.unanswered > 0) --state.unanswered;
  state.rejected.reset();
  on_answered(worker);
}

// An estimate: one that is long is looked into once before it is waited out.
void WorkerPool::on_rejected(WorkerId worker, Duration hint, Time now) {
  const auto it = workers_.find(worker);
  if (it == workers_.end()) return;
  on_answered(worker);
  State& state = it->second;
  Duration pause = std::clamp(hint, options_.reject_pause, options_.reject_pause_max);
  const bool looked = state.hinted && now < *state.hinted;
  state.hinted.reset();
  if (pause > options_.look_after && !looked) {
    state.hinted = now + pause;
    pause = std::max(pause / 2, options_.look_after);
  }
  state.rejected = now;
  state.blocked_until = std::max(state.blocked_until, now + pause);
  if (filling_ == worker) filling_.reset();
}

void WorkerPool::on_leg_ended(WorkerId worker, bool accepted) {
  const auto it = workers_.find(worker);
  if (it == workers_.end()) return;
  State& state = it->second;
  if (state.open > 0) {
    --state.open;
    --total_open_;
  }
  if (!accepted) {
    if (state.unanswered > 0) --state.unanswered;
    return;
  }
  on_vacant(worker);
}

// No need to wait for the hint. A faulty worker stays blocked.
void WorkerPool::on_vacant(WorkerId worker) {
  const auto it = workers_.find(worker);
  if (it == workers_.end()) return;
  if (it->second.faults_in_a_row == 0) it->second.blocked_until = Time{};
  it->second.hinted.reset();
}

void WorkerPool::on_fault(WorkerId worker, Time now) {
  const auto it = workers_.find(worker);
  if (it == workers_.end()) return;
  State& state = it->second;
  Duration pause = options_.fault_pause;
  for (int i = 0; i < state.faults_in_a_row && pause < options_.fault_pause_max; ++i) pause *= 2;
  ++state.faults_in_a_row;
  state.blocked_until = now + std::min(pause, options_.fault_pause_max);
  if (filling_ == worker) filling_.reset();
}

void WorkerPool::on_answered(WorkerId worker) {
  const auto it = workers_.find(worker);
  if (it == workers_.end()) return;
  State& state = it->second;
  if (state.silent || state.faults_in_a_row > 0) state.blocked_until = Time{};
  state.silent = false;
  state.faults_in_a_row = 0;
}

void WorkerPool::on_silent(WorkerId worker) {
  if (const auto it = workers_.find(worker); it != workers_.end()) it->second.silent = true;
}

int WorkerPool::places(WorkerId worker) const {
  const auto it = workers_.find(worker);
  return it == workers_.end() ? 0 : it->second.places;
}

bool WorkerPool::works(WorkerId worker) const {
  const auto it = workers_.find(worker);
  return it != workers_.end() && !it->second.silent && it->second.faults_in_a_row == 0;
}

bool WorkerPool::any_works() const {
  return std::ranges::any_of(workers_, [](const auto& entry) {
    return !entry.second.silent && entry.second.faults_in_a_row == 0;
  });
}

Time WorkerPool::soonest(Time now) const {
  std::optional<Time> first;
  for (const auto& [id, state] : workers_) {
    if (state.silent) continue;
    const Time at = std::max(now, state.hinted.value_or(state.blocked_until));
    if (!first || at < *first) first = at;
  }
  return first.value_or(now);
}

int WorkerPool::open(WorkerId worker) const {
  const auto it = workers_.find(worker);
  return it == workers_.end() ? 0 : it->second.open;
}

}  // namespace pd::policy
