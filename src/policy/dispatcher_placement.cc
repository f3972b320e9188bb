// Which of those that wait goes where: the part of Dispatcher::poll() that places legs.
#include <algorithm>
#include <utility>

#include "base/rng.h"
#include "policy/dispatcher.h"
#include "policy/kv_blocks.h"

namespace pd::policy {

void Dispatcher::place_prefills(Time now) {
  held_back_ = budget_spent_ = false;
  while (const auto id = wait_prefill_.next_again()) {
    if (!place_prefill(*id, now)) return;
  }
  while (const auto id = wait_prefill_.next_charged()) {
    if (!prefill_.any_free(now)) return;
    budget_spent_ = !retries_.take(now);
    if (budget_spent_) break;
    grant_retry(*id);
    if (!place_prefill(*id, now)) return;
  }
  while (const auto id = wait_prefill_.next()) {
    if (!place_prefill(*id, now)) return;
  }
}

// From now on it waits with those that need no grant, until it is placed.
void Dispatcher::grant_retry(RequestId id) {
  Request& request = requests_.at(id);
  request.retries_paid = request.life.charged();
  wait_prefill_.remove(request.waiter);
  request.waiter.charged = false;
  wait_prefill_.add(request.waiter);
}

bool Dispatcher::place_prefill(RequestId id, Time now) {
  Request& request = requests_.at(id);
  const Submission& asked = request.asked;
  held_back_ = !decode_in_time(request, now);
  if (held_back_) return false;
  const auto worker = choose_prefill(request, now);
  if (!worker) return false;
  if (request.record.prefill == WorkerId()) wait_prefill_.charge_prompt(asked.tenant, asked.prompt);
  request.record.prefill = *worker;
  with(id, now, [&](RequestLife& life) {
    actions_.push_back(SendPrefill{id, life.place_prefill(*worker), *worker});
  });
  return true;
}

DecodeDemand Dispatcher::demand_of(const Request& request) {
  const Tokens emitted(std::max<std::int64_t>(request.life.emitted(), 1));
  DecodeDemand demand{request.asked.prompt + emitted - Tokens(1),
                      std::max(request.asked.output_max - emitted, Tokens(0))};
  if (request.life.evictions() >= kEvictionsMax)  // takes all that it can need at once
    demand = {demand.kv_length + demand.output_left, Tokens(0)};
  return demand;
}

// G15: whether some D is expected to have a place for it by the time that it has waited
// `decode_patience` for one. Before any request has ended on a D, nothing is expected to. Of the
// places that others hold it may have one: the D's tell whom they have rejected when one is free.
bool Dispatcher::decode_in_time(const Request& request, Time now) const {
  if (request.asked.output_max <= Tokens(request.life.emitted() + 1)) return true;  // needs none
  const auto room = rooms_.room_for(decode_, demand_of(request), options_.decode_patience, now);
  // Nobody that works: one at a time finds out whether those that failed do again.
  if (!room) return awaiting_decode_ == 0 && decode_.any_free(now);
  if (awaiting_decode_ < *room) return true;
  const Duration bound =
      options_.decode_patience + first_token_.at_most(request.asked.prompt.value());
  if (awaiting_decode_ == 0 &&
      rooms_.freed_within(decode_, bound, options_.decode_patience, now) >= 1)
    return true;
  const auto hold = decode_turnover_.hold(now);
  if (!hold) return false;
  const double freed = decode_turnover_.held() * (to_seconds(bound) / to_seconds(*hold));
  return awaiting_decode_ + 1 <= static_cast<double>(*room) + freed;
}

std::optional<WorkerId> Dispatcher::choose_prefill(Request& request, Time now) {
  const Submission& asked = request.asked;
  Preference preference{.key = asked.prefix.empty() ? counter_random(options_.seed, request.order)
                                                    : asked.prefix.front(),
                        .by_key = !asked.prefix.empty(),
                        .tried = request.tried};
  if (const auto match = prefixes_.find(asked.prefix)) preference.cached = match->worker;
  auto worker = choose_of_kind(asked, preference, now);
  if (worker || request.tried.empty()) return worker;
  preference.tried = {};
  worker = choose_of_kind(asked, preference, now);
  if (worker) request.tried.clear();
  return worker;
}

std::optional<WorkerId> Dispatcher::choose_of_kind(const Submission& asked, Preference preference,
                                                   Time now) {
  if (!prefill_.mixed()) return prefill_.choose(now, preference);
  preference.whole =
      whole_.prefers_whole(asked.prompt, side_of(false, asked, now), side_of(true, asked, now));
  const auto worker = prefill_.choose(now, preference);
  if (worker || whole_.strict()) return worker;
  preference.whole = !*preference.whole;  // whoever has a place: better there than waiting
  return prefill_.choose(now, preference);
}

// What the least busy of a kind that has a place would have to do.
WholeSide Dispatcher::side_of(bool whole, const Submission& asked, Time now) const {
  WholeSide best{.queued = Tokens(0), .uncached = asked.prompt, .decoding = 0};
  const auto match = prefixes_.find(asked.prefix);
  bool found = false;
  for (const auto& [id, member] : members_) {
    if ((member.role == Role::kBoth) != whole || !prefill_.may_ask(id, now)) continue;
    WholeSide side = best;
    const auto queued = prefilling_.find(id);
    side.queued = queued == prefilling_.end() ? Tokens(0) : queued->second;
    side.uncached = asked.prompt;
    if (match && match->worker == id) {
      const Tokens cached(static_cast<std::int64_t>(match->blocks) * kPrefixBlock.value());
      side.uncached = std::max(asked.prompt - cached, Tokens(1));
    }
    side.decoding = static_cast<int>(rooms_.requests(decode_, id));
    const auto work = [](const WholeSide& one) { return one.queued + one.uncached; };
    if (std::exchange(found, true) && work(side) >= work(best)) continue;
    best = side;
  }
  return best;
}

// One hedge for each placement: what two are slow with, a third would be slow with, too.
void Dispatcher::file_hedge(RequestId id, Request& request, Time now) {
  if (options_.hedge_after <= Duration{}) return;
  if (request.life.phase() != RequestPhase::kPrefilling) {
    if (request.hedge_at) hedges_.erase({*request.hedge_at, id});
    request.hedge_at.reset();
    request.hedged = false;
  } else if (!request.hedge_at && !request.hedged) {
    request.hedge_at = now + std::max(options_.hedge_after,
                                      3 * wait_prefill_.expected_prefill(request.asked.prompt));
    hedges_.emplace(*request.hedge_at, id);
  }
}

void Dispatcher::hedge_slow_prefills(Time now) {
  while (!hedges_.empty() && hedges_.begin()->first <= now) {
    const RequestId id = hedges_.begin()->second;
    Request& request = requests_.at(id);
    hedges_.erase(hedges_.begin());
    Preference preference{.avoid = request.life.prefill_leg()->worker,
                          .key = counter_random(options_.seed, request.order)};
    // The other kind is no more asked by a hedge than by the placement.
    if (whole_.strict() && prefill_.mixed()) preference.whole = false;
    const auto worker = prefill_.choose(now, preference);
    if (!worker || !retries_.take(now)) {
      request.hedge_at = now + options_.hedge_after;
      hedges_.emplace(*request.hedge_at, id);
      continue;
    }
    request.hedge_at.reset();
    request.hedged = true;
    ++request.record.hedges;
    with(id, now, [&](RequestLife& life) {
      actions_.push_back(SendPrefill{id, life.place_hedge(*worker), *worker});
    });
  }
}

// D's whose whole memory it may outgrow, while another one's is large enough.
std::set<WorkerId> Dispatcher::too_small_for(const Request& request) const {
  std::set<WorkerId> out;
  bool another = false;
  for (const auto& [id, member] : members_) {
    if (!decodes(member.role) || !member.admits) continue;
    const bool holds = member.kv_max == Tokens(0) ||
                       request.asked.prompt <= member.kv_max - request.asked.output_max;
    another = another || holds;
    if (!holds) out.insert(id);
  }
  return another ? out : std::set<WorkerId>();
}

void Dispatcher::place_decodes(Time now) {
  std::set<WorkerId> claimed;
  for (auto it = wait_decode_.begin(); it != wait_decode_.end();) {
    const RequestId id = (it++)->second;  // placing erases the entry
    Request& request = requests_.at(id);
    const std::optional<WorkerId> source = request.life.prefill_leg()
                                               ? std::optional(request.life.prefill_leg()->worker)
                                               : std::nullopt;
    const DecodeDemand demand = demand_of(request);
    std::optional<WorkerId> worker;
    if (source && role_of(*source) == Role::kBoth) {
      if (!decode_.may_ask(*source, now)) continue;
      worker = source;  // an aggregated instance serves its requests whole
    } else {
      const std::uint64_t key = counter_random(options_.seed, request.order);
      std::set<WorkerId> left_out = too_small_for(request);
      const bool all_alike = left_out.empty();
      left_out.insert(claimed.begin(), claimed.end());
      worker = rooms_.choose(decode_, demand, left_out, key, now);
      if (!worker) {
        const auto waits_for = rooms_.claim(decode_, left_out);
        if (!waits_for && all_alike) return;
        if (!waits_for) continue;
        claimed.insert(*waits_for);
        continue;
      }
    }
    request.record.decode = *worker;
    rooms_.on_sent(*worker, demand);
    request.unanswered.emplace(*worker, demand);
    with(id, now, [&](RequestLife& life) {
      actions_.push_back(SendDecode{id, life.place_decode(*worker), *worker});
    });
  }
}

}  // namespace pd::policy
