// The dispatchers of gateways that know nothing of each other and a group of instances in virtual
// time, with faults, from one seed. It does what the gateways' drivers and the controller do, and
// checks after every event what must always hold; the first breach is kept with its time.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "policy/dispatcher.h"
#include "sim_worker.h"
#include "virtual_time.h"

namespace pd::sim {

struct WorldOptions {
  std::uint64_t seed = 1;
  int prefill = 2, decode = 2, both = 0;
  int slots = 2, places = 8;
  BlockCount blocks{256};
  int requests = 60;
  Duration arrive_within{std::chrono::seconds(2)};
  Duration ttft_limit{std::chrono::seconds(300)};
  Duration total_limit{std::chrono::seconds(600)};
  int output_max = 120;
  // Faults, spread over arrive_within.
  int kills = 0;     // connections are reset
  int vanishes = 0;  // nothing more is heard, not even a reset
  int freezes = 0;   // up to 4 s, then it goes on
  int gateway_kills = 0;
  double cancel_share = 0;
  int quiet_every = 0;  // every so many requests one of another tenant; 0: all are one's
  std::vector<unsigned> gateways{1};  // what share of the requests comes to each
  policy::DispatcherOptions dispatcher;
};

// How one request went.
struct Outcome {
  std::uint32_t wanted = 0;
  std::uint32_t got = 0;  // tokens, each checked to be the next
  Time submitted, first_limit;
  std::size_t gateway = 0;
  bool quiet = false;         // the other tenant's
  bool lost = false;          // with its gateway
  std::optional<Time> first;  // its first token
  std::optional<Time> ended;
  policy::RequestEnd end;
  policy::RequestRecord record;
};

class GroupWorld {
 public:
  explicit GroupWorld(const WorldOptions& options);

  // Until every request has ended and every lease with them.
  void run();

  const std::map<RequestId, Outcome>& outcomes() const { return outcomes_; }
  // Empty: all invariants held. Otherwise the first breach.
  const std::string& breach() const { return breach_; }
  std::uint64_t log_hash() const { return hash_; }
  std::uint64_t events() const { return events_; }
  int evictions() const { return evictions_; }
  int rejections() const { return rejections_; }

 private:
  struct Gateway {
    std::size_t index;
    policy::Dispatcher dispatcher;
    std::optional<Time> timer;
    bool alive = true;
  };
  struct LegState {
    WorkerId worker;
    Holder source;  // of a decode leg: the prefill leg that has the KV
    Time last_delivery{};
    bool over = false;
  };

  void add_worker(Role role);
  void publish();
  void plan_requests();
  void plan_faults();
  void hurt(const std::string& how);
  void replace(SimWorker& worker);
  void kill_gateway();
  std::size_t choose_gateway();
  void submit(RequestId id, std::uint32_t wanted, bool quiet, std::size_t gateway);

  void pump();
  void pump(Gateway& gateway);
  void act(Gateway& gateway, const policy::SendPrefill& action);
  void act(Gateway& gateway, const policy::SendDecode& action);
  void act(Gateway& gateway, const policy::Cancel& action);
  void act(Gateway& gateway, const policy::Finish& action);
  void act(Gateway& gateway, const policy::Renew& action);
  // A message on a leg's own connection, in order, in either direction.
  void deliver(const Holder& holder, std::function<void()> what);
  void on_report(const Holder& holder, const Report& report);
  void on_vacant(WorkerId worker, std::size_t gateway, const std::optional<Room>& room);
  void break_connections(WorkerId worker);
  Duration latency() { return std::chrono::microseconds(50 + rng_.below(450)); }

  void note(std::string_view what, std::uint64_t a, std::uint64_t b);
  void check(bool holds, std::string_view what);
  void check_all();

  WorldOptions options_;
  VirtualTime time_{Time(std::chrono::seconds(1000))};
  Rng rng_;
  std::deque<Gateway> gateways_;
  std::vector<std::unique_ptr<SimWorker>> workers_;  // also the dead, by id - 1
  std::vector<policy::Member> topology_;
  std::map<RequestId, Outcome> outcomes_;
  std::map<RequestId, std::map<policy::LegNumber, LegState>> legs_;
  std::map<RequestId, Holder> kv_of_;  // the last prefill leg that gave a token
  std::string breach_;
  std::uint64_t hash_ = 0, events_ = 0;
  std::size_t unfinished_ = 0;
  int evictions_ = 0, rejections_ = 0;
};

}  // namespace pd::sim
