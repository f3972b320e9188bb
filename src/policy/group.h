// The life of a group's instances: set-up in the one safe order, replacement of exactly the
// instance that died. Pure: shown events, polled for actions, told the time. The controller drives
// it with processes and HTTP, the simulator with models of them.
//
//   starting ─registered─▶ reported ─all reported─▶ loading ─loaded, peers verified─▶ loaded ─▶
//   warming ─▶ serving
//
// Invariants (docs/architecture.md, set-up): no role before everyone has reported; nobody is
// announced before a real prefill + handoff + decode went through it; whoever leaves is out of the
// membership before it is stopped; for one death there is one substitute.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/role.h"
#include "base/time.h"
#include "base/units.h"

namespace pd::policy {

struct GroupOptions {
  int prefill = 1;
  int decode = 1;
  int both = 0;
  Duration start_limit{std::chrono::seconds(30)};  // process start to registration
  Duration load_limit{std::chrono::minutes(30)};   // weights of hundreds of GB from a slow disk
  Duration warm_limit{std::chrono::seconds(60)};
  // No answer to health polls for this long: the instance is dead to us. Above the longest pause
  // that a busy machine makes; gateways notice much earlier and merely look elsewhere.
  Duration dead_after{std::chrono::seconds(6)};
  // Pause before the next substitute of a role whose last one died before it served; doubles each
  // time.
  Duration restart_pause{std::chrono::milliseconds(500)};
  Duration restart_pause_max{std::chrono::seconds(30)};
  // Pause before a warm-up that failed is tried again; doubles each time. A partner that is busy
  // may be so for long; one that fails this often is replaced.
  Duration warm_pause{std::chrono::milliseconds(20)};
  Duration warm_pause_max{std::chrono::seconds(1)};
  int warm_failures_max = 10;
};

enum class InstanceState : std::uint8_t {
  kStarting,
  kReported,
  kLoading,
  kLoaded,
  kWarming,
  kServing,
  kStopping
};
std::string_view to_string(InstanceState state);

// What an instance says of itself when it is asked.
struct InstanceReport {
  BootId boot;
  bool loaded = false;  // weights are in, and every peer it was told of answered
  bool ready = false;   // can serve now
  std::string trouble;  // why not, or a fatal fault; empty: none
  bool fatal = false;   // it will not get better: stop it
};

struct StartInstance {
  WorkerId id;
  Role role;  // what it will become; it starts stateless
};
struct AssignRole {
  WorkerId id;
  Role role;
  std::vector<WorkerId> peers;  // the other side of the group, as far as it has reported
};
struct WarmUp {  // a real prefill on one, a handoff, a decode on the other (one and the same for
                 // kBoth)
  WorkerId prefill;
  WorkerId decode;
};
struct StopInstance {
  WorkerId id;
  std::string why;
};
struct PublishMembers {};  // members() has changed
enum class WarmUpResult : std::uint8_t {
  kOk,
  kBusy,  // one of them had no place now: nobody is to blame
  kFailed,
};
using GroupAction = std::variant<StartInstance, AssignRole, WarmUp, StopInstance, PublishMembers>;

class Group {
 public:
  struct Instance {
    WorkerId id;
    Role role = Role::kNone;
    InstanceState state = InstanceState::kStarting;
    BootId boot;
    Time since{};       // in this state
    Time last_heard{};  // of a report
    bool ready = true;
    std::string trouble;
    std::optional<WorkerId> warm_partner;
    int warm_tries = 0;  // in a row that did not succeed
    int warm_failures = 0;
    Time warm_not_before{};
  };

  // `first_id`: WorkerIds are never reused, also not across controllers: the caller keeps the next
  // free one.
  Group(const GroupOptions& options, WorkerId first_id);

  void on_registered(WorkerId id, BootId boot, Time now);
  void on_report(WorkerId id, const InstanceReport& report, Time now);
  void on_exited(WorkerId id, const std::string& how, Time now);
  void on_warm(WorkerId prefill, WorkerId decode, WarmUpResult result, const std::string& trouble,
               Time now);

  std::vector<GroupAction> poll(Time now);
  std::optional<Time> next_deadline() const;

  const std::map<WorkerId, Instance>& instances() const { return instances_; }
  // Announced ones: serving and not stopping.
  std::vector<WorkerId> members() const;
  bool complete() const;  // every desired instance serves
  int substitutes() const { return substitutes_; }
  WorkerId next_id() const { return WorkerId(next_id_); }

 private:
  struct Restarts {
    int failures = 0;  // in a row, before serving
    Time not_before{};
  };
  int desired(Role role) const;
  int present(Role role) const;
  void enter(Instance& instance, InstanceState state, Time now);
  void remove(WorkerId id, const std::string& why, bool still_running, Time now);
  void start_missing(Time now);
  void assign_reported(Time now);
  void warm_loaded(Time now);
  void postpone_warm_up(Instance& instance, WarmUpResult result, Time now);
  void stop_overdue(Time now);
  std::vector<WorkerId> peers_of(const Instance& instance) const;
  const Instance* partner_for(const Instance& instance) const;
  Duration limit_of(InstanceState state) const;

  GroupOptions options_;
  std::uint64_t next_id_;
  std::map<WorkerId, Instance> instances_;
  std::map<Role, Restarts> restarts_;
  std::vector<GroupAction> actions_;
  bool formed_ = false;  // the first full set has reported; later ones join one by one
  int substitutes_ = 0;
};

}  // namespace pd::policy
