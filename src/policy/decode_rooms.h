// Which D can take a request now: what each D last stated of its free blocks and places, less what
// this gateway has sent there since. Pure; told the time. The truth is D's accept or reject; this
// keeps requests from asking where the answer is known, and sends them where they fit.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>

#include "base/time.h"
#include "base/units.h"
#include "policy/worker_pool.h"

namespace pd::policy {

// What a D states of itself, with every answer and every renewal of leases.
struct DecodeRoom {
  std::int64_t requests = 0;  // in the batch or about to join
  std::int64_t places = 0;    // free ones
  BlockCount free;            // in nobody's table
  BlockCount spare;           // free, less what its requests are expected to grow by (G15)
  Tokens block_tokens{1};     // of one block
  Tokens growth;              // output expected of a request that begins
  Duration hold{};            // of a place by a request; 0: none has ended yet
};

// What a request would take of a D.
struct DecodeDemand {
  Tokens kv_length;    // positions whose KV exists
  Tokens output_left;  // at most, until max_tokens
};

class DecodeRooms {
 public:
  // A statement older than `stale_after` says nothing any more: other gateways use the D, too.
  explicit DecodeRooms(Duration stale_after) : stale_after_(stale_after) {}

  void on_stated(WorkerId worker, const DecodeRoom& room, Time now);
  // A leg is on its way, and has been answered (accepted, rejected, given up): a statement made in
  // between may not have seen it.
  void on_sent(WorkerId worker, const DecodeDemand& demand);
  void on_answered(WorkerId worker, const DecodeDemand& demand);
  void remove(WorkerId worker) { states_.erase(worker); }

  // The D to ask: of those in `pool` that may be asked and are not in `claimed` the one with the
  // fewest requests where it fits with its expected growth; else where it fits as it is. One that
  // has not stated anything of late may be asked. nullopt: it fits nowhere.
  std::optional<WorkerId> choose(const WorkerPool& pool, const DecodeDemand& demand,
                                 const std::set<WorkerId>& claimed, std::uint64_t key,
                                 Time now) const;
  // That it decodes, as far as is known.
  std::int64_t requests(const WorkerPool& pool, WorkerId worker) const;
  // Where a request that fits nowhere waits: the D with the most spare blocks. Requests behind it
  // leave that D alone, or small ones would keep a large one out for ever.
  std::optional<WorkerId> claim(const WorkerPool& pool, const std::set<WorkerId>& claimed) const;
  // When the first statement becomes stale after `now`, and its D may be asked whatever it said.
  std::optional<Time> next_stale(Time now) const { return next_older(stale_after_, now); }

  // How many requests like this one the D's in `pool` have room for, before anything ends there. A
  // D that has stated nothing for `known_for` is taken to hold this gateway's legs and no others. A
  // D with a free place has room for one at least: it may be large, and its turn must come.
  // nullopt: no D that works is known.
  std::optional<std::int64_t> room_for(const WorkerPool& pool, const DecodeDemand& demand,
                                       Duration known_for, Time now) const;
  std::optional<Time> next_older(Duration than, Time now) const;
  // Places, whoever holds them, that become free within `time` at the D's that have said so for
  // `known_for`.
  double freed_within(const WorkerPool& pool, Duration time, Duration known_for, Time now) const;

 private:
  enum class Fit : std::uint8_t { kYes, kTight, kNo };
  struct State {
    std::optional<DecodeRoom> stated;
    Time stated_at{};
    std::int64_t sent = 0;  // legs that are not answered yet, and what they take
    Tokens sent_kv, sent_growth;
  };
  Fit fit(const State& state, const DecodeDemand& demand, Time now) const;
  static std::int64_t spare(const State& state);

  Duration stale_after_;
  std::map<WorkerId, State> states_;
};

}  // namespace pd::policy
