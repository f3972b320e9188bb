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

std::vector<WorkerId> WorkerPool::workers() const {
  std::vector<WorkerId> out;
  for (const auto& [id, state] : workers_) out.push_back(id);
  return out;
}

std::optional<WorkerId> WorkerPool::choose(Time now, const Preference& preference) const {
  const auto right_kind = [&](const State& state) {
    return !preference.whole || *preference.whole == state.whole;
  };
  if (preference.cached && preference.cached != preference.avoid &&
      may_ask(*preference.cached, now) && right_kind(workers_.at(*preference.cached)) &&
      within_bound(workers_.at(*preference.cached)))
    return preference.cached;
  std::optional<WorkerId> best;
  std::tuple<bool, int, std::uint64_t> best_rank;
  for (const auto& [id, state] : workers_) {
    if (!free(state, now) || id == preference.avoid || !right_kind(state)) continue;
    const bool other = options_.forwarding == Forwarding::kFill && filling_ != id;
    const std::tuple rank{other, state.open, ~rendezvous_score(preference.key, id)};
    if (!best || rank < best_rank) {
      best = id;
      best_rank = rank;
    }
  }
  return best;
}

// With this request the worker would have at most load_bound times its share.
bool WorkerPool::within_bound(const State& state) const {
  const double share = (total_open_ + 1.0) / static_cast<double>(workers_.size());
  return state.open + 1 <= std::ceil(options_.load_bound * share);
}

bool WorkerPool::free(const State& state, Time now) {
  return !state.silent && state.blocked_until <= now && state.open < state.places;
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
  ++total_open_;
}

void WorkerPool::on_accepted(WorkerId worker) {
  if (!workers_.contains(worker)) return;
  filling_ = worker;
  on_answered(worker);
}

void WorkerPool::on_rejected(WorkerId worker, Duration hint, Time now) {
  const auto it = workers_.find(worker);
  if (it == workers_.end()) return;
  on_answered(worker);
  const Duration pause = std::clamp(hint, options_.reject_pause, options_.reject_pause_max);
  it->second.blocked_until = std::max(it->second.blocked_until, now + pause);
  if (filling_ == worker) filling_.reset();
}

void WorkerPool::on_leg_ended(WorkerId worker) {
  const auto it = workers_.find(worker);
  if (it == workers_.end()) return;
  State& state = it->second;
  if (state.open > 0) {
    --state.open;
    --total_open_;
  }
  // A place has just become free: no need to wait for the hint. A faulty worker stays blocked.
  if (state.faults_in_a_row == 0) state.blocked_until = Time{};
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

int WorkerPool::open(WorkerId worker) const {
  const auto it = workers_.find(worker);
  return it == workers_.end() ? 0 : it->second.open;
}

}  // namespace pd::policy
