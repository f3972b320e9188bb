// An instance in virtual time: the workers' own policies (slots, blocks, leases) over modelled
// computation. It is reached and answers by messages with a delay; killed, it resets its
// connections or, cut off, says nothing at all; frozen, it reads nothing until it is thawed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <variant>
#include <vector>

#include "base/rng.h"
#include "policy/dispatcher.h"
#include "policy/kv_blocks.h"
#include "policy/lease_table.h"
#include "policy/slots.h"
#include "policy/turns.h"
#include "virtual_time.h"

namespace pd::sim {

using policy::Holder;

// What a leg's stream carries, as pd_messages has it.
struct Accepted {};
struct Rejected {
  Duration hint;
};
struct Token {
  std::uint32_t index;
  bool finished;
};
struct Joined {};
struct Released {
  bool pulled;
};
struct Evicted {};
struct LegFault {
  ErrorCode code;
  bool worker_fault;
};
struct Room {
  policy::DecodeRoom room;
};
using Report = std::variant<Accepted, Rejected, Token, Joined, Released, Evicted, LegFault, Room>;

struct Ask {  // a leg as the gateway sends it
  Holder holder;
  std::size_t gateway = 0;
  Tokens prompt{1};
  std::uint32_t emitted = 0;
  std::uint32_t total = 1;  // output tokens wanted over all attempts
  int evictions = 0;
};

class SimWorker {
 public:
  struct Shape {
    WorkerId id;
    Role role = Role::kPrefill;
    int slots = 4;
    int places = 16;
    BlockCount blocks{256};
  };
  using Send = std::function<void(const Holder&, Report)>;  // to the leg's gateway
  // To a gateway that it has rejected: a place is free, and what room a D has.
  using Vacant = std::function<void(std::size_t gateway, std::optional<Room>)>;

  SimWorker(VirtualTime& time, const Shape& shape, std::uint64_t seed, Send send, Vacant vacant);

  const Shape& shape() const { return shape_; }
  bool alive() const { return alive_; }
  bool frozen() const { return frozen_; }

  // Messages that arrive now. A dead worker takes none.
  void prefill(const Ask& ask);
  void decode(const Ask& ask, const Holder& source, SimWorker* p);  // pulls that KV from `p`
  void cancel(const Holder& holder);
  void renew(const std::vector<Holder>& held, std::function<void(std::vector<Holder>)> answer);
  void pulled(const Holder& holder);  // D's notice

  void kill() { alive_ = false; }
  void freeze() { frozen_ = true; }
  void thaw();

  bool holds_kv(const Holder& holder) const { return ready_.contains(holder); }
  bool holds(const Holder& holder) const { return slots_.holds(holder) || blocks_.holds(holder); }
  bool idle() const {
    return slots_.used() == 0 && blocks_.used().value() == 0 && leases_.size() == 0;
  }

 private:
  struct Running {
    Tokens prompt;
    std::uint32_t emitted, total;
    std::uint64_t arrival;
    bool placed_again;
    int evictions;
  };
  // Runs now, or when the worker is thawed; never once it is dead.
  void run(std::function<void()> what);
  void later(Duration delay, std::function<void()> what);
  void release(const Holder& holder, bool finished);
  void expire();
  void step();
  Room room() const;
  void make_room();  // one of the batch gives its blocks up

  VirtualTime& time_;
  Shape shape_;
  Rng rng_;
  Send send_;
  Vacant vacant_;
  bool alive_ = true, frozen_ = false, stepping_ = false;
  std::vector<std::function<void()>> held_back_;
  policy::Slots slots_;
  policy::KvBlocks blocks_;
  policy::LeaseTable leases_;
  policy::Turns<std::size_t> prefill_turns_, decode_turns_;
  std::set<Holder> ready_;  // KV waits for D
  std::map<Holder, Running> batch_;
  std::uint64_t arrivals_ = 0;
};

}  // namespace pd::sim
