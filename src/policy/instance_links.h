// What one gateway knows of how each instance answers: which legs it holds there, when to renew
// their leases, who has fallen silent, and what an instance has forgotten.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/time.h"
#include "base/units.h"
#include "policy/request.h"

namespace pd::policy {

struct LinkOptions {
  // Leases last 5 s on workers; renewing ten times as often also notices a silent worker in time
  // (G1: 3 s).
  Duration renew_every{std::chrono::milliseconds(500)};
  Duration silent_after{std::chrono::milliseconds(2000)};
};

// Renew these leases and see whether the worker answers (on_heard).
struct Renew {
  struct Held {
    RequestId request;
    LegNumber leg = 0;
    auto operator<=>(const Held&) const = default;
  };
  WorkerId worker;
  std::vector<Held> held;
};

class InstanceLinks {
 public:
  explicit InstanceLinks(const LinkOptions& options) : options_(options) {}

  void hold(WorkerId worker, const Renew::Held& leg, Time now);
  void let_go(WorkerId worker, const Renew::Held& leg);
  void remove(WorkerId worker);
  std::vector<Renew::Held> held(WorkerId worker) const;

  // The worker answered a renewal and does not know the legs in `unknown`. Returns those that it
  // has now denied twice in a row: what it sent before it forgot a leg may still be on its way, so
  // one answer proves nothing; two of them, a renewal apart, do.
  std::vector<Renew::Held> on_heard(WorkerId worker, const std::vector<Renew::Held>& unknown,
                                    Time now);

  struct Due {
    std::vector<Renew> renewals;
    std::vector<WorkerId> silent;  // fell silent just now
  };
  Due poll(Time now);
  std::optional<Time> next_deadline() const;
  int silent() const { return silent_; }  // do not answer, as of the last poll

 private:
  struct Link {
    bool outstanding = false;
    Time asked{};  // when the oldest unanswered renewal left
    Time next{};   // when to renew again
    bool silent = false;
    std::set<Renew::Held> held;
    std::set<Renew::Held> unknown;  // to the worker, as of its last answer
    std::optional<Time> due;        // as in due_
  };
  std::optional<Time> due_time(const Link& link) const;
  void reindex(WorkerId worker, Link& link);

  LinkOptions options_;
  std::map<WorkerId, Link> links_;
  std::set<std::pair<Time, WorkerId>> due_;
  int silent_ = 0;
};

}  // namespace pd::policy
