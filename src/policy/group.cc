#include "policy/group.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pd::policy {
namespace {

constexpr Role kRoles[] = {Role::kPrefill, Role::kDecode, Role::kBoth};

// Whom an instance of this role exchanges KV with.
bool pairs(Role a, Role b) {
  if (b == Role::kPrefill) std::swap(a, b);
  return a == Role::kPrefill && (b == Role::kDecode || b == Role::kBoth);
}

bool has_reported(InstanceState state) {
  return state != InstanceState::kStarting && state != InstanceState::kStopping;
}

bool has_loaded(InstanceState state) {
  return state == InstanceState::kLoaded || state == InstanceState::kWarming ||
         state == InstanceState::kServing;
}

}  // namespace

std::string_view to_string(InstanceState state) {
  switch (state) {
    case InstanceState::kStarting:
      return "starting";
    case InstanceState::kReported:
      return "reported";
    case InstanceState::kLoading:
      return "loading";
    case InstanceState::kLoaded:
      return "loaded";
    case InstanceState::kWarming:
      return "warming";
    case InstanceState::kServing:
      return "serving";
    case InstanceState::kStopping:
      return "stopping";
  }
  return "unknown";
}

Group::Group(const GroupOptions& options, WorkerId first_id)
    : options_(options), next_id_(first_id.value()) {}

int Group::desired(Role role) const {
  switch (role) {
    case Role::kPrefill:
      return options_.prefill;
    case Role::kDecode:
      return options_.decode;
    case Role::kBoth:
      return options_.both;
    case Role::kNone:
      break;
  }
  return 0;
}

int Group::present(Role role) const {
  return static_cast<int>(std::ranges::count_if(instances_, [role](const auto& entry) {
    return entry.second.role == role && entry.second.state != InstanceState::kStopping;
  }));
}

std::vector<WorkerId> Group::members() const {
  std::vector<WorkerId> out;
  for (const auto& [id, instance] : instances_) {
    if (instance.state == InstanceState::kServing) out.push_back(id);
  }
  return out;
}

bool Group::complete() const {
  const int wanted = options_.prefill + options_.decode + options_.both;
  return static_cast<int>(members().size()) == wanted;
}

void Group::enter(Instance& instance, InstanceState state, Time now) {
  if (instance.state == state) return;
  const bool was_member = instance.state == InstanceState::kServing;
  instance.state = state;
  instance.since = now;
  if (was_member || state == InstanceState::kServing) actions_.push_back(PublishMembers{});
}

// ---- events ----

void Group::on_registered(WorkerId id, BootId boot, Time now) {
  const auto it = instances_.find(id);
  if (it == instances_.end() || it->second.state != InstanceState::kStarting) return;
  it->second.boot = boot;
  it->second.last_heard = now;
  enter(it->second, InstanceState::kReported, now);
}

void Group::on_report(WorkerId id, const InstanceReport& report, Time now) {
  const auto it = instances_.find(id);
  if (it == instances_.end()) return;
  Instance& instance = it->second;
  if (instance.state == InstanceState::kStarting || instance.state == InstanceState::kStopping)
    return;
  if (report.boot != instance.boot) {  // something else answers on its address
    remove(id, "another process answers on its address", true, now);
    return;
  }
  instance.last_heard = now;
  instance.ready = report.ready;
  instance.trouble = report.trouble;
  if (report.fatal) {
    remove(id, report.trouble, true, now);
    return;
  }
  if (instance.state == InstanceState::kLoading && report.loaded)
    enter(instance, InstanceState::kLoaded, now);
}

void Group::on_exited(WorkerId id, const std::string& how, Time now) {
  remove(id, how, false, now);
}

void Group::on_warm(WorkerId prefill, WorkerId decode, WarmUpResult result,
                    const std::string& trouble, Time now) {
  const std::set<WorkerId> pair{prefill, decode};
  std::vector<WorkerId> hopeless;
  for (const WorkerId id : pair) {
    const auto it = instances_.find(id);
    if (it == instances_.end()) continue;
    Instance& instance = it->second;
    instance.warm_partner.reset();
    if (instance.state != InstanceState::kWarming) continue;
    if (result == WarmUpResult::kOk) {
      restarts_[instance.role] = {};
      instance.warm_tries = instance.warm_failures = 0;
      enter(instance, InstanceState::kServing, now);
      continue;
    }
    // Which side is to blame is unknown: both try again with whoever is there.
    instance.trouble = "warm-up: " + trouble;
    enter(instance, InstanceState::kLoaded, now);
    postpone_warm_up(instance, result, now);
    if (instance.warm_failures >= options_.warm_failures_max) hopeless.push_back(id);
  }
  for (const WorkerId id : hopeless) {
    remove(id,
           fmt::format("{} warm-ups failed, the last one: {}", options_.warm_failures_max, trouble),
           true, now);
  }
}

void Group::postpone_warm_up(Instance& instance, WarmUpResult result, Time now) {
  Duration pause = options_.warm_pause;
  for (int i = 0; i < instance.warm_tries && pause < options_.warm_pause_max; ++i) pause *= 2;
  instance.warm_not_before = now + std::min(pause, options_.warm_pause_max);
  ++instance.warm_tries;
  if (result == WarmUpResult::kFailed) ++instance.warm_failures;
}

void Group::remove(WorkerId id, const std::string& why, bool still_running, Time now) {
  const auto it = instances_.find(id);
  if (it == instances_.end()) return;
  Instance& instance = it->second;
  if (instance.state != InstanceState::kStopping) {
    const bool served = instance.state == InstanceState::kServing;
    if (served) ++substitutes_;
    Restarts& restarts = restarts_[instance.role];
    if (!served) {
      Duration pause = options_.restart_pause;
      for (int i = 0; i < restarts.failures && pause < options_.restart_pause_max; ++i) pause *= 2;
      ++restarts.failures;
      restarts.not_before = now + std::min(pause, options_.restart_pause_max);
    }
    enter(instance, InstanceState::kStopping, now);  // out of the membership first
  }
  if (still_running) {
    actions_.push_back(StopInstance{id, why});
  } else {
    instances_.erase(it);
  }
}

// ---- polling ----

std::vector<GroupAction> Group::poll(Time now) {
  stop_overdue(now);
  start_missing(now);
  assign_reported(now);
  warm_loaded(now);
  return std::exchange(actions_, {});
}

Duration Group::limit_of(InstanceState state) const {
  switch (state) {
    case InstanceState::kStarting:
      return options_.start_limit;
    case InstanceState::kLoading:
      return options_.load_limit;
    case InstanceState::kWarming:
      return options_.warm_limit;
    default:
      return Duration::max();
  }
}

void Group::stop_overdue(Time now) {
  std::vector<std::pair<WorkerId, std::string>> overdue;
  for (const auto& [id, instance] : instances_) {
    if (instance.state == InstanceState::kStopping) continue;
    const Duration limit = limit_of(instance.state);
    if (limit != Duration::max() && now - instance.since >= limit) {
      overdue.emplace_back(
          id, fmt::format("{} for longer than {} s", to_string(instance.state), to_seconds(limit)));
    } else if (instance.state != InstanceState::kStarting &&
               now - instance.last_heard >= options_.dead_after) {
      overdue.emplace_back(id, fmt::format("no answer for {} s", to_seconds(options_.dead_after)));
    }
  }
  for (const auto& [id, why] : overdue) remove(id, why, true, now);
}

void Group::start_missing(Time now) {
  for (const Role role : kRoles) {
    if (restarts_[role].not_before > now) continue;
    while (present(role) < desired(role)) {
      const WorkerId id(next_id_++);
      Instance& instance = instances_[id];
      instance.id = id;
      instance.role = role;
      instance.since = now;
      actions_.push_back(StartInstance{id, role});
    }
  }
}

std::vector<WorkerId> Group::peers_of(const Instance& instance) const {
  std::vector<WorkerId> out;
  for (const auto& [id, other] : instances_) {
    if (pairs(instance.role, other.role) && has_reported(other.state)) out.push_back(id);
  }
  return out;
}

void Group::assign_reported(Time now) {
  if (!formed_) {
    const bool all = std::ranges::all_of(instances_, [](const auto& entry) {
      return entry.second.state != InstanceState::kStarting;
    });
    if (!all) return;
    formed_ = true;
  }
  for (auto& [id, instance] : instances_) {
    if (instance.state != InstanceState::kReported) continue;
    actions_.push_back(AssignRole{id, instance.role, peers_of(instance)});
    enter(instance, InstanceState::kLoading, now);
  }
}

// A loaded instance of the other side: best one that waits for its own warm-up, else one that
// serves.
const Group::Instance* Group::partner_for(const Instance& instance) const {
  const Instance* serving = nullptr;
  for (const auto& [id, other] : instances_) {
    if (!pairs(instance.role, other.role) || !has_loaded(other.state) || other.warm_partner)
      continue;
    // An aggregated one proves both of its halves by itself first.
    if (other.state == InstanceState::kLoaded && other.role != Role::kBoth) return &other;
    if (serving == nullptr && other.state == InstanceState::kServing) serving = &other;
  }
  return serving;
}

void Group::warm_loaded(Time now) {
  for (auto& [id, instance] : instances_) {
    if (instance.state != InstanceState::kLoaded || instance.warm_partner) continue;
    if (instance.warm_not_before > now) continue;
    WorkerId partner_id = id;
    if (instance.role != Role::kBoth) {
      const Instance* partner = partner_for(instance);
      if (partner == nullptr) continue;
      partner_id = partner->id;
    }
    Instance& partner = instances_.at(partner_id);
    for (Instance* side : {&instance, &partner}) {
      if (side->state != InstanceState::kLoaded) continue;
      enter(*side, InstanceState::kWarming, now);
    }
    instance.warm_partner = partner_id;
    partner.warm_partner = id;
    const bool first_is_prefill = instance.role != Role::kDecode;
    actions_.push_back(first_is_prefill ? WarmUp{id, partner_id} : WarmUp{partner_id, id});
  }
}

std::optional<Time> Group::next_deadline() const {
  std::optional<Time> next;
  const auto keep = [&next](Time candidate) {
    if (!next || candidate < *next) next = candidate;
  };
  if (!actions_.empty()) return Time{};
  for (const auto& [id, instance] : instances_) {
    if (instance.state == InstanceState::kStopping) continue;
    const Duration limit = limit_of(instance.state);
    if (limit != Duration::max()) keep(instance.since + limit);
    if (instance.state != InstanceState::kStarting) keep(instance.last_heard + options_.dead_after);
    // Without a partner only an event helps.
    if (instance.state == InstanceState::kLoaded && !instance.warm_partner &&
        (instance.role == Role::kBoth || partner_for(instance) != nullptr)) {
      keep(instance.warm_not_before);
    }
  }
  for (const Role role : kRoles) {
    if (present(role) >= desired(role)) continue;
    const auto it = restarts_.find(role);
    keep(it == restarts_.end() ? Time{} : it->second.not_before);
  }
  return next;
}

}  // namespace pd::policy
