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
      rooms_(options.room_holds),
      links_(options.links),
      prefixes_(options.prefixes_max),
      retries_(options.retries),
      whole_(options.whole),
      wait_prefill_(options.waiting),
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

std::optional<RequestRecord> Dispatcher::record(RequestId request, Time now) const {
  const auto it = requests_.find(request);
  if (it == requests_.end()) return std::nullopt;
  RequestRecord out = it->second.record;
  out.in_phase[static_cast<std::size_t>(it->second.life.phase())] += now - it->second.phase_since;
  return out;
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
    rooms_.remove(id);
    prefilling_.erase(id);
    fail_worker(id, {ErrorCode::kUnavailable, "the instance left the group"}, now);
    links_.remove(id);
    prefixes_.forget(id);
  }
  for (const auto& [id, member] : members_) {
    if (member.admits && prefills(member.role))
      prefill_.upsert(id, member.slots, member.role == Role::kBoth);
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
  for (const Renew::Held& held : links_.held(worker)) {
    with(held.request, now, [&](RequestLife& life) { life.on_fault(held.leg, fault, true); });
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

void Dispatcher::submit(Submission submission, Time now) {
  const RequestId id = submission.request;
  Request request{.life = RequestLife(options_.request),
                  .asked = std::move(submission),
                  .order = next_order_++,
                  .phase_since = now};
  request.record.submitted = now;
  const auto [it, inserted] = requests_.emplace(id, std::move(request));
  CHECK(inserted);
  totals_.emplace(it->second.asked.deadlines.total, id);
  retries_.on_request();
  for (Vacancy* vacancy : {&prefill_vacancy_, &decode_vacancy_}) {
    if (vacancy->empty && *vacancy->empty == Time{}) vacancy->empty = now;
  }
  if (wait_prefill_.empty()) prefill_vacancy_.deaf.reset();  // what was long ago says nothing
  file(id, it->second);
}

void Dispatcher::cancel(RequestId id, Time now) {
  with(id, now, [](RequestLife& life) { life.finish({RequestEnd::Why::kCancelled, {}}); });
}

void Dispatcher::enter_phase(Request& request, RequestPhase before, Time now) {
  if (request.life.phase() == before) return;
  request.record.in_phase[static_cast<std::size_t>(before)] += now - request.phase_since;
  request.phase_since = now;
  request.record.phase = request.life.phase();
}

void Dispatcher::file(RequestId id, Request& request) {
  const RequestPhase phase = request.life.phase();
  if (phase == RequestPhase::kWaitingPrefill && !request.waits_prefill) {
    const Submission& asked = request.asked;
    request.waiter = {.request = id,
                      .tenant = asked.tenant,
                      .work = asked.prompt,
                      .priority = asked.priority,
                      .first_token = asked.deadlines.first_token,
                      .order = request.order,
                      .again = request.life.restarts() > 0,
                      .charged = request.retries_paid < request.life.charged(),
                      .reserve = reserve(request),
                      .in_time = request.life.emitted() > 0};
    wait_prefill_.add(request.waiter);
    request.waits_prefill = true;
  }
  if (phase == RequestPhase::kWaitingDecode && !request.waits_decode) {
    wait_decode_.emplace(WaitKey{request.asked.deadlines.first_token, request.order}, id);
    request.waits_decode = true;
  }
}

// Half of the time it had, at most: a measure of other prompts must not refuse it unseen.
Duration Dispatcher::reserve(const Request& request) const {
  const Duration whole = request.asked.deadlines.first_token - request.record.submitted;
  return std::clamp(first_token_.at_most(request.asked.prompt.value()), Duration{},
                    std::max(whole / 2, Duration{}));
}

void Dispatcher::unfile(Request& request) {
  const RequestPhase phase = request.life.phase();
  if (phase != RequestPhase::kWaitingPrefill && std::exchange(request.waits_prefill, false))
    wait_prefill_.remove(request.waiter);
  if (phase != RequestPhase::kWaitingDecode && std::exchange(request.waits_decode, false))
    wait_decode_.erase({request.asked.deadlines.first_token, request.order});
}

void Dispatcher::settle(RequestId id, Request& request, Time now) {
  for (const CancelLeg& leg : request.life.take_cancelled())
    actions_.push_back(Cancel{id, leg.leg, leg.worker});
  count_leg(id, request.counted_prefill, request.life.prefill_leg(), Role::kPrefill, now);
  count_leg(id, request.counted_hedge, request.life.hedge_leg(), Role::kPrefill, now);
  count_leg(id, request.counted_decode, request.life.decode_leg(), Role::kDecode, now);
  note_decode_answers(request);
  note_prefilling(request);
  file_hedge(id, request, now);
  unfile(request);
  if (!request.life.done()) {
    file(id, request);
    return;
  }
  if (request.hedge_at) hedges_.erase({*request.hedge_at, id});
  request.record.crashes = request.life.crashes();
  request.record.restarts = request.life.restarts();
  request.record.evictions = request.life.evictions();
  actions_.push_back(Finish{id, *request.life.end(), request.record});
  totals_.erase({request.asked.deadlines.total, id});
  requests_.erase(id);
}

void Dispatcher::count_leg(RequestId id, std::optional<RequestLife::Leg>& counted,
                           const std::optional<RequestLife::Leg>& held, Role role, Time now) {
  const bool same =
      counted.has_value() == held.has_value() && (!held || counted->number == held->number);
  if (same) {
    if (held && held->accepted && !counted->accepted) pool(role).on_accepted(held->worker);
    counted = held;
    return;
  }
  if (counted) {
    pool(role).on_leg_ended(counted->worker, counted->accepted);
    links_.let_go(counted->worker, {id, counted->number});
    if (role == Role::kPrefill && counted->accepted) {
      // 1/8: follows a change of load within some ten requests and ignores single outliers.
      if (last_freed_ != Time{}) freed_every_ += (now - last_freed_ - freed_every_) / 8;
      last_freed_ = now;
    }
  }
  counted = held;
  if (held) {
    pool(role).on_sent(held->worker);
    if (held->accepted) pool(role).on_accepted(held->worker);  // a hedge that takes over
    links_.hold(held->worker, {id, held->number}, now);
  }
}

// ---- reports of legs ----

void Dispatcher::on_accepted(RequestId id, LegNumber leg, Time now) {
  with(id, now, [&](RequestLife& life) {
    life.on_accepted(leg);
    for (const auto& held : {life.prefill_leg(), life.hedge_leg()}) {
      if (!held || held->number != leg) continue;
      worker_answered(held->worker);
      Request& request = requests_.at(id);
      request.tried.clear();
      request.prefill_accepted = now;
      prefixes_.record(request.asked.prefix, held->worker);
    }
    if (life.decode_leg() && life.decode_leg()->number == leg)
      worker_answered(life.decode_leg()->worker);
  });
}

void Dispatcher::on_rejected(RequestId request, LegNumber leg, Duration hint, Time now) {
  std::optional<std::pair<Role, WorkerId>> by;
  with(request, now, [&](RequestLife& life) {
    if (life.decode_leg() && life.decode_leg()->number == leg)
      by = {Role::kDecode, life.decode_leg()->worker};
    else if (const auto worker = life.worker_of(leg))
      by = {Role::kPrefill, *worker};
    life.on_rejected(leg);
  });
  // After the leg was taken off the books: giving it up must not look like a place that became
  // free.
  if (!by) return;
  if (const auto it = requests_.find(request); it != requests_.end()) {
    ++it->second.record.rejections;
    std::vector<WorkerId>& tried = it->second.tried;
    const auto place = std::ranges::lower_bound(tried, by->second);
    if (by->first == Role::kPrefill && (place == tried.end() || *place != by->second))
      tried.insert(place, by->second);
  }
  pool(by->first).on_rejected(by->second, hint, now);
  worker_answered(by->second);
}

bool Dispatcher::on_tokens(RequestId id, LegNumber leg, std::uint32_t index, std::uint32_t count,
                           bool finished, Time now) {
  bool taken = false;
  with(id, now, [&](RequestLife& life) {
    const bool prefilling = life.phase() == RequestPhase::kPrefilling;
    const Time prefilling_since = requests_.at(id).phase_since;
    taken = life.on_tokens(leg, index, count, finished);
    if (!taken) return;
    const Request& request = requests_.at(id);
    wait_prefill_.charge_output(request.asked.tenant, Tokens(count));
    // Which of two computed it, and since when, is no measure.
    if (prefilling && request.record.hedges == 0) {
      wait_prefill_.on_prefilled(request.asked.prompt, now - request.prefill_accepted);
      first_token_.on_measured(request.asked.prompt.value(), now - prefilling_since);
    }
  });
  return taken;
}

void Dispatcher::on_prefilled(RequestId request, LegNumber leg, Time now) {
  if (wait_decode_.empty()) decode_vacancy_.deaf.reset();
  with(request, now, [&](RequestLife& life) { life.on_prefilled(leg); });
}

void Dispatcher::on_joined(RequestId request, LegNumber leg, Time now) {
  const auto it = requests_.find(request);
  if (it != requests_.end() && it->second.life.phase() == RequestPhase::kJoining &&
      it->second.life.decode_leg()->number == leg) {
    const auto& source = it->second.life.prefill_leg();
    const bool whole = source && source->worker == it->second.life.decode_leg()->worker;
    whole_.on_joined(whole, it->second.asked.prompt, now - it->second.phase_since);
  }
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
    worker = life.worker_of(leg);
    life.on_fault(leg, fault, worker_fault);
  });
  if (worker && worker_fault) worker_faulted(*worker, now);
}

// A leg that is accepted, rejected or given up is on its way no more.
void Dispatcher::note_decode_answers(Request& request) {
  const auto& held = request.life.decode_leg();
  if (!request.unanswered || (held && !held->accepted)) return;
  rooms_.on_answered(request.unanswered->first, request.unanswered->second);
  request.unanswered.reset();
}

void Dispatcher::note_prefilling(Request& request) {
  std::optional<WorkerId> at;
  if (request.life.phase() == RequestPhase::kPrefilling) at = request.life.prefill_leg()->worker;
  if (at == request.prefilling_at) return;
  if (request.prefilling_at) {
    const auto it = prefilling_.find(*request.prefilling_at);
    if (it != prefilling_.end()) it->second -= request.asked.prompt;
  }
  if (at) prefilling_[*at] += request.asked.prompt;
  request.prefilling_at = at;
}

void Dispatcher::on_room(WorkerId worker, const DecodeRoom& room, Time now) {
  if (decode_.contains(worker)) rooms_.on_stated(worker, room, now);
}

void Dispatcher::on_heard(WorkerId worker, const std::vector<Renew::Held>& unknown, Time now) {
  if (!members_.contains(worker)) return;
  prefill_.on_answered(worker);
  decode_.on_answered(worker);
  worker_answered(worker);
  // Its lease ended there, and the stream should have said so.
  for (const Renew::Held& denied : links_.on_heard(worker, unknown, now)) {
    with(denied.request, now, [&](RequestLife& life) {
      life.on_fault(denied.leg,
                    {ErrorCode::kUnavailable, "the instance does not hold the request any more"},
                    false);
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
  hedge_slow_prefills(now);  // last: who has no P at all comes first
  return std::exchange(actions_, {});
}

void Dispatcher::end_overdue(Time now) {
  while (!totals_.empty() && totals_.begin()->first <= now) {
    with(totals_.begin()->second, now, [](RequestLife& life) {
      life.finish({RequestEnd::Why::kDeadline,
                   {ErrorCode::kDeadlineExceeded, "the request's deadline passed"}});
    });
  }
  const auto end = [&](RequestId id, RequestEnd::Why why) {
    with(id, now, [why](RequestLife& life) { life.finish({why, {}}); });
  };
  const auto passed = [&](const Vacancy& vacancy) {
    const auto at = vacancy.ends(options_.empty_patience);
    return at && *at <= now;
  };
  while (passed(prefill_vacancy_) && !wait_prefill_.empty()) {
    auto first = wait_prefill_.next_again();
    if (!first) first = wait_prefill_.next_charged();
    end(first ? *first : *wait_prefill_.next(), RequestEnd::Why::kNoWorker);
  }
  while (passed(decode_vacancy_) && !wait_decode_.empty())
    end(wait_decode_.begin()->second, RequestEnd::Why::kNoWorker);
  const bool nobody = prefill_vacancy_.empty || prefill_vacancy_.deaf;
  for (auto late = wait_prefill_.first_overdue(); late && late->first <= now;
       late = wait_prefill_.first_overdue())
    end(late->second, nobody ? RequestEnd::Why::kNoWorker : RequestEnd::Why::kBusy);
}

void Dispatcher::check_links(Time now) {
  InstanceLinks::Due due = links_.poll(now);
  for (Renew& renew : due.renewals) actions_.push_back(std::move(renew));
  for (const WorkerId worker : due.silent) {
    prefill_.on_silent(worker);
    decode_.on_silent(worker);
    note_deaf(worker, now);
    fail_worker(worker, {ErrorCode::kUnavailable, "the instance does not answer"}, now);
  }
}

std::optional<Time> Dispatcher::next_deadline() {
  std::optional<Time> next;
  if (!actions_.empty()) return Time{};
  if (!totals_.empty()) keep_earliest(next, totals_.begin()->first);
  if (!hedges_.empty()) keep_earliest(next, hedges_.begin()->first);
  if (const auto late = wait_prefill_.first_overdue()) keep_earliest(next, late->first);
  if (!wait_prefill_.empty()) {
    keep_earliest(next, prefill_.next_unblock(polled_at_));
    keep_earliest(next, prefill_vacancy_.ends(options_.empty_patience));
    if (wait_prefill_.next_charged() && prefill_.any_free(polled_at_))
      keep_earliest(next, retries_.next(polled_at_));
  }
  if (!wait_decode_.empty()) {
    keep_earliest(next, decode_.next_unblock(polled_at_));
    keep_earliest(next, rooms_.next_stale(polled_at_));
    keep_earliest(next, decode_vacancy_.ends(options_.empty_patience));
  }
  keep_earliest(next, links_.next_deadline());
  return next;
}

Duration Dispatcher::expected_wait(Time) const {
  return freed_every_ * static_cast<std::int64_t>(wait_prefill_.size() + 1);
}

}  // namespace pd::policy
