// What instances say of their legs and of themselves: the part of Dispatcher that is shown it.
#include <algorithm>
#include <utility>

#include "policy/dispatcher.h"

namespace pd::policy {

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
  if (wait_decode_.empty()) wait_anew(decode_vacancy_, decode_, now);
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

void Dispatcher::on_fault(RequestId request, LegNumber leg, const Error& fault, Blame blame,
                          Time now) {
  std::optional<WorkerId> worker;
  with(request, now, [&](RequestLife& life) {
    worker = life.worker_of(leg);
    life.on_fault(leg, fault, blame);
  });
  if (worker && blame != Blame::kNobody) worker_faulted(*worker, now);
}

void Dispatcher::on_unreachable(WorkerId worker, Time now) {
  prefill_.on_silent(worker);
  decode_.on_silent(worker);
  note_deaf(worker, now);
}

void Dispatcher::on_reachable(WorkerId worker) {
  prefill_.on_answered(worker);
  decode_.on_answered(worker);
  worker_answered(worker);
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

void Dispatcher::note_awaiting_decode(Request& request) {
  const RequestPhase phase = request.life.phase();
  const bool more = request.asked.output_max > Tokens(request.life.emitted() + 1);
  const bool awaits =
      (phase == RequestPhase::kPrefilling && more) || phase == RequestPhase::kWaitingDecode;
  awaiting_decode_ += static_cast<int>(awaits) - static_cast<int>(request.awaits_decode);
  request.awaits_decode = awaits;
}

void Dispatcher::on_vacant(WorkerId worker) {
  prefill_.on_vacant(worker);
  decode_.on_vacant(worker);
  worker_answered(worker);
}

void Dispatcher::on_room(WorkerId worker, const DecodeRoom& room, Time now) {
  if (decode_.contains(worker)) rooms_.on_stated(worker, room, now);
}

void Dispatcher::on_heard(WorkerId worker, const std::vector<Renew::Held>& unknown, Time now) {
  if (!members_.contains(worker)) return;
  prefill_.on_answered(worker);
  decode_.on_answered(worker);
  worker_answered(worker);
  bool reached = true;
  for (const Renew::Held& denied : links_.on_heard(worker, unknown, now)) {
    with(denied.request, now, [&](RequestLife& life) {
      reached &= life.accepted(denied.leg);
      life.on_denied(denied.leg);
    });
  }
  // Others would not reach it either: it is left alone for a moment.
  if (reached) return;
  prefill_.on_fault(worker, now);
  decode_.on_fault(worker, now);
}

}  // namespace pd::policy
