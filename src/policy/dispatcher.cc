#include "policy/dispatcher.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace pd::policy {
namespace {

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
    with(held.request, now,
         [&](RequestLife& life) { life.on_fault(held.leg, fault, Blame::kBroke); });
  }
}

void Dispatcher::worker_faulted(WorkerId worker, Time now) {
  prefill_.on_fault(worker, now);
  decode_.on_fault(worker, now);
  note_deaf(worker, now);
}

void Dispatcher::note_deaf(WorkerId worker, Time now) {
  const Role role = role_of(worker);
  const auto note = [now](Vacancy& vacancy, const WorkerPool& pool) {
    if (!vacancy.deaf && !pool.any_works()) vacancy.deaf = now;
  };
  if (prefills(role)) note(prefill_vacancy_, prefill_);
  if (decodes(role)) note(decode_vacancy_, decode_);
}

void Dispatcher::wait_anew(Vacancy& vacancy, const WorkerPool& pool, Time now) {
  if (!vacancy.deaf) return;
  vacancy.deaf = now;
  if (pool.any_works()) vacancy.deaf.reset();
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
  if (wait_prefill_.empty()) wait_anew(prefill_vacancy_, prefill_, now);
  if (wait_prefill_.empty() && wait_decode_.empty()) wait_anew(decode_vacancy_, decode_, now);
  file(id, it->second);
}

void Dispatcher::cancel(RequestId id, Time now) {
  with(id, now, [](RequestLife& life) { life.finish({RequestEnd::Why::kCancelled, {}}); });
}

void Dispatcher::enter_phase(Request& request, RequestPhase before, Time now) {
  if (request.life.phase() == before) return;
  request.record.in_phase[static_cast<std::size_t>(before)] += now - request.phase_since;
  request.phase_since = now;
  if (!request.life.done()) request.record.phase = request.life.phase();
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
                      .in_time = request.life.emitted() > 0 || request.answered};
    wait_prefill_.add(request.waiter);
    request.waits_prefill = true;
  }
  if (phase == RequestPhase::kWaitingDecode && !request.waits_decode) {
    wait_decode_.emplace(WaitKey{request.asked.deadlines.first_token, request.order}, id);
    request.waits_decode = true;
  }
}

void Dispatcher::on_answer_begun(RequestId id) {
  const auto it = requests_.find(id);
  if (it == requests_.end() || std::exchange(it->second.answered, true)) return;
  if (!std::exchange(it->second.waits_prefill, false)) return;
  wait_prefill_.remove(it->second.waiter);
  file(id, it->second);
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
  count_leg(request, request.counted_prefill, request.life.prefill_leg(), Role::kPrefill, now);
  count_leg(request, request.counted_hedge, request.life.hedge_leg(), Role::kPrefill, now);
  count_leg(request, request.counted_decode, request.life.decode_leg(), Role::kDecode, now);
  note_decode_answers(request);
  note_prefilling(request);
  note_awaiting_decode(request);
  file_hedge(id, request, now);
  unfile(request);
  restarts_ += static_cast<std::uint64_t>(request.life.restarts() - request.record.restarts);
  request.record.restarts = request.life.restarts();
  request.record.crashes = request.life.crashes();
  request.record.taken = request.life.taken();
  request.record.evictions = request.life.evictions();
  if (!request.life.done()) {
    file(id, request);
    return;
  }
  if (request.hedge_at) hedges_.erase({*request.hedge_at, id});
  actions_.push_back(Finish{id, *request.life.end(), request.record});
  totals_.erase({request.asked.deadlines.total, id});
  requests_.erase(id);
}

void Dispatcher::count_leg(Request& request, std::optional<CountedLeg>& counted,
                           const std::optional<RequestLife::Leg>& held, Role role, Time now) {
  const RequestId id = request.asked.request;
  const bool same =
      counted.has_value() == held.has_value() && (!held || counted->leg.number == held->number);
  if (counted && !same) {
    const auto& [leg, accepted] = *counted;
    pool(role).on_leg_ended(leg.worker, leg.accepted);
    links_.let_go(leg.worker, {id, leg.number});
    // Of two that compute the same, neither is held as long as one alone.
    if (leg.accepted)
      turnover(role).on_freed(accepted, role == Role::kDecode || request.record.hedges == 0, now);
    counted.reset();
  }
  if (!held) return;
  if (!counted) {
    pool(role).on_sent(held->worker);
    links_.hold(held->worker, {id, held->number}, now);
    counted.emplace(CountedLeg{});
  }
  if (held->accepted && !counted->leg.accepted) {
    pool(role).on_accepted(held->worker);
    turnover(role).on_taken(now);
    counted->accepted = now;
  }
  counted->leg = *held;
}

// ---- polling ----

std::vector<DispatchAction> Dispatcher::poll(Time now) {
  polled_at_ = now;
  expected_wait_.reset();
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
  while ((passed(prefill_vacancy_) || passed(decode_vacancy_)) && !wait_prefill_.empty()) {
    auto first = wait_prefill_.next_again();
    if (!first) first = wait_prefill_.next_charged();
    end(first ? *first : *wait_prefill_.next(), RequestEnd::Why::kNoWorker);
  }
  while (passed(decode_vacancy_) && !wait_decode_.empty())
    end(wait_decode_.begin()->second, RequestEnd::Why::kNoWorker);
  for (auto late = wait_prefill_.first_overdue(); late && late->first <= now;
       late = wait_prefill_.first_overdue())
    end(late->second, nobody_serves() ? RequestEnd::Why::kNoWorker : RequestEnd::Why::kBusy);
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
    keep_earliest(next, decode_vacancy_.ends(options_.empty_patience));
    if (held_back_) {
      keep_earliest(next, rooms_.next_older(options_.decode_patience, polled_at_));
      keep_earliest(next, decode_.next_unblock(polled_at_));
    }
    if (budget_spent_) keep_earliest(next, retries_.next(polled_at_));
  }
  if (!wait_decode_.empty()) {
    keep_earliest(next, decode_.next_unblock(polled_at_));
    keep_earliest(next, rooms_.next_stale(polled_at_));
    keep_earliest(next, decode_vacancy_.ends(options_.empty_patience));
  }
  keep_earliest(next, links_.next_deadline());
  return next;
}

Duration Dispatcher::expected_wait(Time now) {
  if (!expected_wait_) expected_wait_ = wait_for_place(now);
  return *expected_wait_;
}

Duration Dispatcher::wait_for_place(Time now) const {
  constexpr Duration kUnmeasured = std::chrono::milliseconds(50);
  // Before any has ended, one that has lasted so long is expected to last as long again.
  const PlaceTurnover& held = prefill_turnover_;
  Duration every = held.freed_every(now).value_or(
      std::max(kUnmeasured, held.age(now) / std::max(held.held(), 1)));
  if (held_back_) every = std::max(every, decode_turnover_.freed_every(now).value_or(every));
  const Duration in_line =
      every * static_cast<std::int64_t>(wait_prefill_.served_by_then(now, every) + 1);
  // What the P's themselves have said last, of places that others hold, too.
  return std::max(in_line, prefill_.soonest(now) - now);
}

}  // namespace pd::policy
