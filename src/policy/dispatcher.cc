#include "policy/dispatcher.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace pd::policy {
namespace {

bool prefills(Role role) { return role == Role::kPrefill || role == Role::kBoth; }
bool decodes(Role role) { return role == Role::kDecode || role == Role::kBoth; }

void keep_earliest(std::optional<Time>& earliest, std::optional<Time> candidate) {
  if (candidate && (!earliest || *candidate < *earliest)) earliest = candidate;
}

}  // namespace

Dispatcher::Dispatcher(const DispatcherOptions& options)
    : options_(options),
      prefill_(options.pool),
      decode_(options.pool),
      prefill_vacancy_{.empty = Time{}, .deaf = {}},
      decode_vacancy_{.empty = Time{}, .deaf = {}} {}

std::optional<Time> Dispatcher::Vacancy::ends(Duration patience) const {
  std::optional<Time> since = deaf;
  if (empty && *empty != Time{}) keep_earliest(since, empty);
  if (!since) return std::nullopt;
  return *since + patience;
}

Role Dispatcher::role_of(WorkerId worker) const {
  const auto it = members_.find(worker);
  return it == members_.end() ? Role::kNone : it->second.role;
}

const RequestLife* Dispatcher::find(RequestId request) const {
  const auto it = requests_.find(request);
  return it == requests_.end() ? nullptr : &it->second.life;
}

// ---- membership ----

void Dispatcher::on_topology(const std::vector<Member>& members, Time now) {
  std::map<WorkerId, Member> next;
  for (const Member& member : members) next[member.worker] = member;
  std::vector<WorkerId> gone;
  for (const auto& [id, member] : members_) {
    if (!next.contains(id)) gone.push_back(id);
  }
  members_ = std::move(next);
  for (const WorkerId id : gone) {
    prefill_.remove(id);
    decode_.remove(id);
    fail_worker(id, {ErrorCode::kUnavailable, "the instance left the group"}, now);
    links_.erase(id);
  }
  for (const auto& [id, member] : members_) {
    if (member.admits && prefills(member.role))
      prefill_.upsert(id, member.slots);
    else
      prefill_.remove(id);
    if (member.admits && decodes(member.role))
      decode_.upsert(id, member.batch_places);
    else
      decode_.remove(id);
  }
  const auto note_empty = [now](std::optional<Time>& since, bool empty) {
    if (!empty)
      since.reset();
    else if (!since)
      since = now;
  };
  note_empty(prefill_vacancy_.empty, prefill_.empty());
  note_empty(decode_vacancy_.empty, decode_.empty());
}

void Dispatcher::fail_worker(WorkerId worker, const Error& fault, Time now) {
  const auto link = links_.find(worker);
  if (link == links_.end()) return;
  const auto held = link->second.held;  // settling changes the set
  for (const auto& [request, leg] : held) {
    with(request, now,
         [&, number = leg](RequestLife& life) { life.on_fault(number, fault, true); });
  }
}

void Dispatcher::worker_faulted(WorkerId worker, Time now) {
  prefill_.on_fault(worker, now);
  decode_.on_fault(worker, now);
  note_deaf(worker, now);
}

void Dispatcher::note_deaf(WorkerId worker, Time now) {
  const Role role = role_of(worker);
  if (prefills(role) && !prefill_vacancy_.deaf) prefill_vacancy_.deaf = now;
  if (decodes(role) && !decode_vacancy_.deaf) decode_vacancy_.deaf = now;
}

void Dispatcher::worker_answered(WorkerId worker) {
  const Role role = role_of(worker);
  if (prefills(role)) prefill_vacancy_.deaf.reset();
  if (decodes(role)) decode_vacancy_.deaf.reset();
}

// ---- requests ----

void Dispatcher::submit(RequestId id, const Deadlines& deadlines, std::optional<WorkerId> preferred,
                        Time now) {
  const auto [it, inserted] = requests_.try_emplace(
      id, Request{RequestLife(options_.request), deadlines, preferred, next_order_++, {}, {}});
  CHECK(inserted);
  totals_.emplace(deadlines.total, id);
  for (Vacancy* vacancy : {&prefill_vacancy_, &decode_vacancy_}) {
    if (vacancy->empty && *vacancy->empty == Time{}) vacancy->empty = now;
  }
  if (wait_prefill_.empty()) prefill_vacancy_.deaf.reset();  // what was long ago says nothing
  file(id, it->second);
}

void Dispatcher::cancel(RequestId id, Time now) {
  with(id, now, [](RequestLife& life) { life.finish({RequestEnd::Why::kCancelled, {}}); });
}

template <typename Event>
void Dispatcher::with(RequestId id, Time now, Event&& event) {
  const auto it = requests_.find(id);
  if (it == requests_.end()) return;
  unfile(it->second);
  event(it->second.life);
  settle(id, it->second, now);
}

void Dispatcher::file(RequestId id, const Request& request) {
  const WaitKey key{request.deadlines.first_token, request.order};
  if (request.life.phase() == RequestPhase::kWaitingPrefill) wait_prefill_.emplace(key, id);
  if (request.life.phase() == RequestPhase::kWaitingDecode) wait_decode_.emplace(key, id);
}

void Dispatcher::unfile(const Request& request) {
  const WaitKey key{request.deadlines.first_token, request.order};
  wait_prefill_.erase(key);
  wait_decode_.erase(key);
}

void Dispatcher::settle(RequestId id, Request& request, Time now) {
  for (const CancelLeg& leg : request.life.take_cancelled())
    actions_.push_back(Cancel{id, leg.leg, leg.worker});
  count_leg(id, request.counted_prefill, request.life.prefill_leg(), Role::kPrefill, now);
  count_leg(id, request.counted_decode, request.life.decode_leg(), Role::kDecode, now);
  if (!request.life.done()) {
    file(id, request);
    return;
  }
  actions_.push_back(Finish{id, *request.life.end()});
  totals_.erase({request.deadlines.total, id});
  requests_.erase(id);
}

void Dispatcher::count_leg(RequestId id, std::optional<RequestLife::Leg>& counted,
                           const std::optional<RequestLife::Leg>& held, Role role, Time now) {
  const bool same =
      counted.has_value() == held.has_value() && (!held || counted->number == held->number);
  if (same) {
    counted = held;
    return;
  }
  if (counted) {
    pool(role).on_leg_ended(counted->worker);
    if (const auto link = links_.find(counted->worker); link != links_.end()) {
      link->second.held.erase({id, counted->number});
    }
    if (role == Role::kPrefill && counted->accepted) {
      // 1/8: follows a change of load within some ten requests and ignores single outliers.
      if (last_freed_ != Time{}) freed_every_ += (now - last_freed_ - freed_every_) / 8;
      last_freed_ = now;
    }
  }
  counted = held;
  if (held) {
    pool(role).on_sent(held->worker);
    Link& link = links_[held->worker];
    if (link.held.empty() && !link.outstanding) link.next = now + options_.renew_every;
    link.held.emplace(id, held->number);
  }
}

// ---- reports of legs ----

void Dispatcher::on_accepted(RequestId request, LegNumber leg, Time now) {
  with(request, now, [&](RequestLife& life) {
    life.on_accepted(leg);
    if (life.prefill_leg() && life.prefill_leg()->number == leg) {
      prefill_.on_accepted(life.prefill_leg()->worker);
      worker_answered(life.prefill_leg()->worker);
    }
    if (life.decode_leg() && life.decode_leg()->number == leg) {
      decode_.on_accepted(life.decode_leg()->worker);
      worker_answered(life.decode_leg()->worker);
    }
  });
}

void Dispatcher::on_rejected(RequestId request, LegNumber leg, Duration hint, Time now) {
  std::optional<std::pair<Role, WorkerId>> by;
  with(request, now, [&](RequestLife& life) {
    if (life.prefill_leg() && life.prefill_leg()->number == leg)
      by = {Role::kPrefill, life.prefill_leg()->worker};
    if (life.decode_leg() && life.decode_leg()->number == leg)
      by = {Role::kDecode, life.decode_leg()->worker};
    life.on_rejected(leg);
  });
  // After the leg was taken off the books: giving it up must not look like a place that became
  // free.
  if (!by) return;
  pool(by->first).on_rejected(by->second, hint, now);
  worker_answered(by->second);
}

bool Dispatcher::on_tokens(RequestId request, LegNumber leg, std::uint32_t index,
                           std::uint32_t count, bool finished, Time now) {
  bool taken = false;
  with(request, now,
       [&](RequestLife& life) { taken = life.on_tokens(leg, index, count, finished); });
  return taken;
}

void Dispatcher::on_prefilled(RequestId request, LegNumber leg, Time now) {
  if (wait_decode_.empty()) decode_vacancy_.deaf.reset();
  with(request, now, [&](RequestLife& life) { life.on_prefilled(leg); });
}

void Dispatcher::on_joined(RequestId request, LegNumber leg, Time now) {
  with(request, now, [&](RequestLife& life) { life.on_joined(leg); });
}

void Dispatcher::on_released(RequestId request, LegNumber leg, bool pulled, Time now) {
  with(request, now, [&](RequestLife& life) { life.on_released(leg, pulled); });
}

void Dispatcher::on_evicted(RequestId request, LegNumber leg, Time now) {
  with(request, now, [&](RequestLife& life) { life.on_evicted(leg); });
}

void Dispatcher::on_fault(RequestId request, LegNumber leg, const Error& fault, bool worker_fault,
                          Time now) {
  std::optional<WorkerId> worker;
  with(request, now, [&](RequestLife& life) {
    if (life.prefill_leg() && life.prefill_leg()->number == leg)
      worker = life.prefill_leg()->worker;
    if (life.decode_leg() && life.decode_leg()->number == leg) worker = life.decode_leg()->worker;
    life.on_fault(leg, fault, worker_fault);
  });
  if (worker && worker_fault) worker_faulted(*worker, now);
}

void Dispatcher::on_heard(WorkerId worker, const std::vector<Renew::Held>& unknown, Time now) {
  const auto link = links_.find(worker);
  if (link == links_.end()) return;
  link->second.outstanding = false;
  link->second.silent = false;
  link->second.next = now + options_.renew_every;
  prefill_.on_answered(worker);
  decode_.on_answered(worker);
  worker_answered(worker);
  // Its lease ended there, and the stream should have said so. What the worker sent before it
  // forgot a leg may still be on its way, so one answer proves nothing; two of them, a renewal
  // apart, do.
  std::set<std::pair<RequestId, LegNumber>> now_unknown;
  for (const auto& held : unknown) now_unknown.emplace(held.request, held.leg);
  const auto before = std::exchange(link->second.unknown, now_unknown);
  for (const auto& [request, leg] : now_unknown) {
    if (!before.contains({request, leg})) continue;
    with(request, now, [&, number = leg](RequestLife& life) {
      life.on_fault(number,
                    {ErrorCode::kUnavailable, "the instance does not hold the request any more"});
    });
  }
}

// ---- polling ----

std::vector<DispatchAction> Dispatcher::poll(Time now) {
  polled_at_ = now;
  check_links(now);
  end_overdue(now);
  place_decodes(now);  // first: it is what frees slots on P
  place_prefills(now);
  return std::exchange(actions_, {});
}

void Dispatcher::end_overdue(Time now) {
  while (!totals_.empty() && totals_.begin()->first <= now) {
    with(totals_.begin()->second, now, [](RequestLife& life) {
      life.finish({RequestEnd::Why::kDeadline,
                   {ErrorCode::kDeadlineExceeded, "the request's deadline passed"}});
    });
  }
  const auto end_first = [&](std::map<WaitKey, RequestId>& waiting, RequestEnd::Why why) {
    with(waiting.begin()->second, now, [why](RequestLife& life) { life.finish({why, {}}); });
  };
  const auto passed = [&](const Vacancy& vacancy) {
    const auto end = vacancy.ends(options_.empty_patience);
    return end && *end <= now;
  };
  while (passed(prefill_vacancy_) && !wait_prefill_.empty())
    end_first(wait_prefill_, RequestEnd::Why::kNoWorker);
  while (passed(decode_vacancy_) && !wait_decode_.empty())
    end_first(wait_decode_, RequestEnd::Why::kNoWorker);
  // Only before its first token: a stream that is being resumed has met its TTFT.
  for (auto it = wait_prefill_.begin(); it != wait_prefill_.end() && it->first.first <= now;) {
    const RequestId id = (it++)->second;
    if (requests_.at(id).life.emitted() > 0) continue;
    const bool nobody = prefill_vacancy_.empty || prefill_vacancy_.deaf;
    const auto why = nobody ? RequestEnd::Why::kNoWorker : RequestEnd::Why::kBusy;
    with(id, now, [why](RequestLife& life) { life.finish({why, {}}); });
  }
}

void Dispatcher::place_prefills(Time now) {
  while (!wait_prefill_.empty()) {
    const RequestId id = wait_prefill_.begin()->second;
    Request& request = requests_.at(id);
    const auto worker = prefill_.choose(now, request.preferred);
    if (!worker) return;
    with(id, now, [&](RequestLife& life) {
      actions_.push_back(SendPrefill{id, life.place_prefill(*worker), *worker});
    });
  }
}

void Dispatcher::place_decodes(Time now) {
  for (auto it = wait_decode_.begin(); it != wait_decode_.end();) {
    const RequestId id = (it++)->second;  // placing erases the entry
    Request& request = requests_.at(id);
    const std::optional<WorkerId> source = request.life.prefill_leg()
                                               ? std::optional(request.life.prefill_leg()->worker)
                                               : std::nullopt;
    std::optional<WorkerId> worker;
    if (source && role_of(*source) == Role::kBoth) {
      if (!decode_.may_ask(*source, now)) continue;
      worker = source;  // an aggregated instance serves its requests whole
    } else {
      worker = decode_.choose(now, std::nullopt);
      if (!worker) return;
    }
    with(id, now, [&](RequestLife& life) {
      actions_.push_back(SendDecode{id, life.place_decode(*worker), *worker});
    });
  }
}

void Dispatcher::check_links(Time now) {
  std::vector<WorkerId> fell_silent;
  silent_ = 0;
  for (auto& [worker, link] : links_) {
    if (link.outstanding && !link.silent && now - link.asked >= options_.silent_after) {
      link.silent = true;
      fell_silent.push_back(worker);
    }
    silent_ += link.silent;
    const bool wanted = !link.held.empty() || link.silent;
    if (!wanted || link.next > now) continue;
    Renew renew{worker, {}};
    for (const auto& [request, leg] : link.held) renew.held.push_back({request, leg});
    actions_.push_back(std::move(renew));
    if (!link.outstanding) link.asked = now;
    link.outstanding = true;
    link.next = now + options_.renew_every;
  }
  for (const WorkerId worker : fell_silent) {
    prefill_.on_silent(worker);
    decode_.on_silent(worker);
    note_deaf(worker, now);
    fail_worker(worker, {ErrorCode::kUnavailable, "the instance does not answer"}, now);
  }
}

std::optional<Time> Dispatcher::next_deadline() const {
  std::optional<Time> next;
  if (!actions_.empty()) return Time{};
  if (!totals_.empty()) keep_earliest(next, totals_.begin()->first);
  for (const auto& [key, id] : wait_prefill_) {
    if (requests_.at(id).life.emitted() > 0) continue;
    keep_earliest(next, key.first);
    break;
  }
  if (!wait_prefill_.empty()) {
    keep_earliest(next, prefill_.next_unblock(polled_at_));
    keep_earliest(next, prefill_vacancy_.ends(options_.empty_patience));
  }
  if (!wait_decode_.empty()) {
    keep_earliest(next, decode_.next_unblock(polled_at_));
    keep_earliest(next, decode_vacancy_.ends(options_.empty_patience));
  }
  for (const auto& [worker, link] : links_) {
    if (link.outstanding && !link.silent) keep_earliest(next, link.asked + options_.silent_after);
    if (!link.held.empty() || link.silent) keep_earliest(next, link.next);
  }
  return next;
}

Duration Dispatcher::expected_wait(Time) const {
  return freed_every_ * static_cast<std::int64_t>(wait_prefill_.size() + 1);
}

}  // namespace pd::policy
