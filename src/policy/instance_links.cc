#include "policy/instance_links.h"

#include <algorithm>

namespace pd::policy {

std::optional<Time> InstanceLinks::due_time(const Link& link) const {
  std::optional<Time> due;
  if (link.outstanding && !link.silent) due = link.asked + options_.silent_after;
  if (!link.held.empty() || link.silent) due = due ? std::min(*due, link.next) : link.next;
  return due;
}

void InstanceLinks::reindex(WorkerId worker, Link& link) {
  const auto due = due_time(link);
  if (due == link.due) return;
  if (link.due) due_.erase({*link.due, worker});
  if (due) due_.emplace(*due, worker);
  link.due = due;
}

void InstanceLinks::hold(WorkerId worker, const Renew::Held& leg, Time now) {
  Link& link = links_[worker];
  if (link.held.empty() && !link.outstanding) link.next = now + options_.renew_every;
  link.held.insert(leg);
  reindex(worker, link);
}

void InstanceLinks::let_go(WorkerId worker, const Renew::Held& leg) {
  const auto it = links_.find(worker);
  if (it == links_.end()) return;
  it->second.held.erase(leg);
  reindex(worker, it->second);
}

void InstanceLinks::remove(WorkerId worker) {
  const auto it = links_.find(worker);
  if (it == links_.end()) return;
  if (it->second.due) due_.erase({*it->second.due, worker});
  silent_ -= it->second.silent;
  links_.erase(it);
}

std::vector<Renew::Held> InstanceLinks::held(WorkerId worker) const {
  const auto it = links_.find(worker);
  if (it == links_.end()) return {};
  return {it->second.held.begin(), it->second.held.end()};
}

std::vector<Renew::Held> InstanceLinks::on_heard(WorkerId worker,
                                                 const std::vector<Renew::Held>& unknown,
                                                 Time now) {
  const auto it = links_.find(worker);
  if (it == links_.end()) return {};
  Link& link = it->second;
  silent_ -= link.silent;
  link.outstanding = link.silent = false;
  link.next = now + options_.renew_every;
  const auto before = std::exchange(link.unknown, {unknown.begin(), unknown.end()});
  reindex(worker, link);
  std::vector<Renew::Held> denied;
  std::ranges::set_intersection(before, link.unknown, std::back_inserter(denied));
  return denied;
}

InstanceLinks::Due InstanceLinks::poll(Time now) {
  Due out;
  while (!due_.empty() && due_.begin()->first <= now) {
    const WorkerId worker = due_.begin()->second;
    Link& link = links_.at(worker);
    if (link.outstanding && !link.silent && now - link.asked >= options_.silent_after) {
      link.silent = true;
      ++silent_;
      out.silent.push_back(worker);
    }
    if ((!link.held.empty() || link.silent) && link.next <= now) {
      out.renewals.push_back({worker, {link.held.begin(), link.held.end()}});
      if (!link.outstanding) link.asked = now;
      link.outstanding = true;
      link.next = now + options_.renew_every;
    }
    reindex(worker, link);
  }
  return out;
}

std::optional<Time> InstanceLinks::next_deadline() const {
  if (due_.empty()) return std::nullopt;
  return due_.begin()->first;
}

}  // namespace pd::policy
