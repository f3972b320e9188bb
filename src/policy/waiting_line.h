// The requests that wait for a P, and which of them is next.
//
// Between tenants: who has been served the least work per weight (tokens of prompts, and of outputs
// at twice the price). A tenant that was away starts where those who wait are: nothing is saved up.
// Source: Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024 (virtual token
// counters).
//
// Within a tenant: TTFT deadline, later by the time that the prompt itself takes, so that short
// ones pass long ones; but by `aging_max` at most, so that who arrives later than that passes
// nobody (G20).
//
// Before all others: requests that are placed again, because an instance failed them. Those that
// the retry budget has to grant first do not hold up those that it has not.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/time.h"
#include "base/units.h"
#include "policy/tenant.h"

namespace pd::policy {

struct WaitingLineOptions {
  Duration aging_max{std::chrono::seconds(2)};
  // How far behind its deadline's place a prompt waits, for each unit of its own prefill time.
  int postponement = 4;
  double output_price = 2;
  // What one step of priority is worth: among a tenant's own, as if it had come so much earlier.
  Duration priority_step{std::chrono::milliseconds(500)};
};

struct Waiter {
  RequestId request;
  TenantId tenant;
  Tokens work;  // of its prompt
  int priority = 0;
  Time first_token;         // TTFT deadline
  std::uint64_t order = 0;  // of arrival: unique, breaks ties
  bool again = false;       // it was placed before
  bool charged = false;     // and needs a grant of the retry budget for it
  // Before the deadline, for its own prefill: who waits any longer waits in vain.
  Duration reserve{};
  bool in_time = false;  // its first token is out: the deadline holds no more
};

class WaitingLine {
 public:
  explicit WaitingLine(const WaitingLineOptions& options) : options_(options) {}

  void set_weight(TenantId tenant, double weight);  // > 0; 1 unless told
  void add(const Waiter& waiter);
  void remove(const Waiter& waiter);  // no effect if it does not wait

  // Of those that are placed again, of those that need a grant for it, and of those that never were
  // placed.
  std::optional<RequestId> next_again() const { return first(again_); }
  std::optional<RequestId> next_charged() const { return first(charged_); }
  std::optional<RequestId> next() const;
  // The one that waits in vain first, and since when; of those that the deadline still holds for.
  std::optional<std::pair<Time, RequestId>> first_overdue() const;
  // How many of those that wait get one of the places that become free `every` so often: all but
  // those who would have waited in vain before their turn comes.
  std::size_t served_by_then(Time now, Duration every) const;
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }

  // Work that was done for a tenant.
  void charge_prompt(TenantId tenant, Tokens tokens);
  void charge_output(TenantId tenant, Tokens tokens);
  // A prefill of so many tokens took so long: what prompts are expected to take.
  void on_prefilled(Tokens tokens, Duration took);
  Duration expected_prefill(Tokens tokens) const;
  double served(TenantId tenant) const;

 private:
  using Key = std::pair<Time, std::uint64_t>;  // place in the tenant's line, order of arrival
  struct Line {
    double served = 0;
    double weight = 1;
    std::map<Key, RequestId> waiting;
  };
  static std::optional<RequestId> first(const std::map<Key, RequestId>& waiting) {
    return waiting.empty() ? std::nullopt : std::optional(waiting.begin()->second);
  }
  Duration postponed(const Waiter& waiter) const;
  void charge(TenantId tenant, double work);
  void forget_idle();

  WaitingLineOptions options_;
  std::map<TenantId, Line> lines_;
  std::set<std::pair<double, TenantId>> backlogged_;  // by work served
  std::map<Key, RequestId> again_, charged_;
  std::map<Key, RequestId> deadlines_;   // less the reserve, of all that wait and are not in time
  std::map<std::uint64_t, Key> places_;  // by order: postponements change while they wait
  double floor_ = 0;  // what the least served of those who wait has, or had when one last did
  double peak_ = 0;   // what the most served has
  Duration per_token_{std::chrono::microseconds(50)};  // of prefill; moving average
  std::size_t size_ = 0;
};

}  // namespace pd::policy
