#include "policy/decode_rooms.h"

#include <algorithm>
#include <tuple>

#include "policy/prefix_affinity.h"

namespace pd::policy {
namespace {

std::int64_t blocks_of(Tokens tokens, const DecodeRoom& room) {
  return blocks_for(tokens, room.block_tokens).value();
}

Tokens growth_of(const DecodeDemand& demand, const DecodeRoom& room) {
  return std::clamp(room.growth, Tokens(0), std::max(demand.output_left, Tokens(0)));
}

}  // namespace

void DecodeRooms::on_stated(WorkerId worker, const DecodeRoom& room, Time now) {
  State& state = states_[worker];
  state.stated = room;
  state.stated->block_tokens = std::max(room.block_tokens, Tokens(1));
  state.stated_at = now;
}

void DecodeRooms::on_sent(WorkerId worker, const DecodeDemand& demand) {
  State& state = states_[worker];
  ++state.sent;
  state.sent_kv += demand.kv_length + Tokens(1);
  state.sent_growth += demand.output_left;
}

void DecodeRooms::on_answered(WorkerId worker, const DecodeDemand& demand) {
  const auto it = states_.find(worker);
  if (it == states_.end() || it->second.sent == 0) return;
  State& state = it->second;
  --state.sent;
  state.sent_kv -= demand.kv_length + Tokens(1);
  state.sent_growth -= demand.output_left;
}

// Blocks that are neither needed by its requests nor by those on their way to it.
std::int64_t DecodeRooms::spare(const State& state) {
  const DecodeRoom& room = *state.stated;
  const Tokens growth = std::min(state.sent_growth, Tokens(room.growth.value() * state.sent));
  // Each is rounded up to whole blocks by itself.
  return room.spare.value() - state.sent - blocks_of(state.sent_kv + growth, room);
}

DecodeRooms::Fit DecodeRooms::fit(const State& state, const DecodeDemand& demand, Time now) const {
  if (!state.stated || now - state.stated_at >= stale_after_) return Fit::kYes;
  const DecodeRoom& room = *state.stated;
  const std::int64_t taken =
      state.sent == 0 ? 0 : blocks_of(state.sent_kv, room) + state.sent;  // rounded up each
  const std::int64_t needed = blocks_of(demand.kv_length + Tokens(1), room);
  if (room.places <= state.sent) return Fit::kNo;
  if (room.requests + state.sent == 0) return Fit::kYes;  // alone, waiting would not help it
  if (room.free.value() - taken < needed) return Fit::kNo;
  const std::int64_t left = state.sent == 0 ? room.spare.value() : spare(state);
  if (left < needed) return Fit::kNo;
  const Tokens grown = demand.kv_length + Tokens(1) + growth_of(demand, room);
  return left < blocks_of(grown, room) ? Fit::kTight : Fit::kYes;
}

std::optional<WorkerId> DecodeRooms::choose(const WorkerPool& pool, const DecodeDemand& demand,
                                            const std::set<WorkerId>& claimed, std::uint64_t key,
                                            Time now) const {
  static const State kUnknown;
  std::optional<WorkerId> best;
  std::tuple<Fit, std::int64_t, std::uint64_t> best_rank;
  for (const WorkerId worker : pool.workers()) {
    if (claimed.contains(worker) || !pool.may_ask(worker, now)) continue;
    const auto it = states_.find(worker);
    const State& state = it == states_.end() ? kUnknown : it->second;
    const Fit fits = fit(state, demand, now);
    if (fits == Fit::kNo) continue;
    const std::tuple rank{fits, requests(pool, worker), ~rendezvous_score(key, worker)};
    if (!best || rank < best_rank) {
      best = worker;
      best_rank = rank;
    }
  }
  return best;
}

std::int64_t DecodeRooms::requests(const WorkerPool& pool, WorkerId worker) const {
  const auto it = states_.find(worker);
  const bool stated = it != states_.end() && it->second.stated;
  return std::max<std::int64_t>(pool.open(worker), stated ? it->second.stated->requests : 0);
}

std::optional<WorkerId> DecodeRooms::claim(const WorkerPool& pool,
                                           const std::set<WorkerId>& claimed) const {
  std::optional<WorkerId> best;
  std::int64_t most = 0;
  for (const WorkerId worker : pool.workers()) {
    const auto it = states_.find(worker);
    if (claimed.contains(worker) || it == states_.end() || !it->second.stated) continue;
    const std::int64_t left = spare(it->second);
    if (best && left <= most) continue;
    best = worker;
    most = left;
  }
  return best;
}

std::optional<std::int64_t> DecodeRooms::room_for(const WorkerPool& pool,
                                                  const DecodeDemand& demand, Duration known_for,
                                                  Time now) const {
  std::optional<std::int64_t> sum;
  for (const WorkerId worker : pool.workers()) {
    if (!pool.works(worker)) continue;
    std::int64_t room = std::max(pool.places(worker) - pool.open(worker), 0);
    const auto it = states_.find(worker);
    if (it != states_.end() && it->second.stated && now - it->second.stated_at < known_for) {
      const State& state = it->second;
      const DecodeRoom& stated = *state.stated;
      room = std::clamp<std::int64_t>(stated.places - state.sent, 0, room);
      const Tokens grown = demand.kv_length + Tokens(1) + growth_of(demand, stated);
      const std::int64_t by_blocks = std::max<std::int64_t>(spare(state), 0) /
                                     std::max<std::int64_t>(blocks_of(grown, stated), 1);
      room = std::min(room, std::max<std::int64_t>(by_blocks, 1));
    }
    sum = sum.value_or(0) + room;
  }
  return sum;
}

double DecodeRooms::freed_within(const WorkerPool& pool, Duration time, Duration known_for,
                                 Time now) const {
  double sum = 0;
  for (const WorkerId worker : pool.workers()) {
    const auto it = states_.find(worker);
    if (!pool.works(worker) || it == states_.end() || !it->second.stated) continue;
    const DecodeRoom& stated = *it->second.stated;
    if (stated.hold <= Duration{} || now - it->second.stated_at >= known_for) continue;
    sum += static_cast<double>(stated.requests) * (to_seconds(time) / to_seconds(stated.hold));
  }
  return sum;
}

std::optional<Time> DecodeRooms::next_older(Duration than, Time now) const {
  std::optional<Time> next;
  for (const auto& [worker, state] : states_) {
    if (!state.stated) continue;
    const Time at = state.stated_at + than;
    if (at > now && (!next || at < *next)) next = at;
  }
  return next;
}

}  // namespace pd::policy
