// P's places for prompts: one from acceptance until the KV has left. P has no queue: it accepts or
// rejects at once, and a rejection says when a place is expected to free. Pure: told the time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "base/time.h"
#include "base/units.h"
#include "policy/holder.h"

namespace pd::policy {

struct SlotsOptions {
  int slots = 4;            // b_p
  double new_share = 0.25;  // weight of the newest measurement in the averages
  // Until something has been measured.
  Duration first_service{std::chrono::milliseconds(50)};
  // Hints stay inside: below, the question costs more than the wait; above, the estimate is stale.
  Duration hint_min{std::chrono::milliseconds(1)};
  Duration hint_max{std::chrono::seconds(2)};
};

struct SlotAnswer {
  enum class Kind : std::uint8_t { kAccepted, kBusy, kDuplicate };  // duplicate: held already
  Kind kind = Kind::kBusy;
  Duration hint{};  // kBusy: after that long a slot is expected to be free
};

class Slots {
 public:
  explicit Slots(const SlotsOptions& options) : options_(options) {}

  // `work`: tokens to prefill.
  SlotAnswer ask(const Holder& holder, Tokens work, Time now);
  // The first token is out; the KV waits for D.
  void on_prefilled(const Holder& holder, Time now);
  // The slot is free again: KV pulled, request finished, cancelled, or lease ended. `measured`:
  // the KV left in the normal way, so its waiting time says something about the next one's.
  void release(const Holder& holder, bool measured, Time now);

  int used() const { return static_cast<int>(held_.size()); }
  int total() const { return options_.slots; }
  bool holds(const Holder& holder) const { return held_.contains(holder); }
  // When the first slot is expected to free, from `now`.
  Duration hint(Time now) const;

 private:
  struct Held {
    Tokens work;
    Time accepted;
    std::optional<Time> prefilled;
  };
  Time expected_end(const Held& held) const;
  void learn(std::optional<double>& average, double seconds) const;

  SlotsOptions options_;
  std::map<Holder, Held> held_;
  std::optional<double> prefill_seconds_per_token_;
  std::optional<double> handoff_seconds_;
};

}  // namespace pd::policy
