#include "group_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pd::sim {

using policy::LegNumber;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

Tokens prompt_of(RequestId id) {
  return Tokens(1 + static_cast<std::int64_t>(mix64(id.low) % 200));
}

}  // namespace

GroupWorld::GroupWorld(const WorldOptions& options) : options_(options), rng_(options.seed) {
  for (std::size_t i = 0; i < options.gateways.size(); ++i)
    gateways_.push_back({i, policy::Dispatcher(options.dispatcher), std::nullopt});
  for (int i = 0; i < options.prefill; ++i) add_worker(Role::kPrefill);
  for (int i = 0; i < options.decode; ++i) add_worker(Role::kDecode);
  for (int i = 0; i < options.both; ++i) add_worker(Role::kBoth);
  publish();
  plan_requests();
  plan_faults();
}

// ---- the world's own course ----

void GroupWorld::add_worker(Role role) {
  const WorkerId id(workers_.size() + 1);
  const SimWorker::Shape shape{id, role, options_.slots, options_.places, options_.blocks};
  // What a connection still carries when it is reset is lost.
  const auto alive = [this, id] { return workers_[id.value() - 1]->alive(); };
  const auto send = [this, alive](const Holder& holder, const Report& report) {
    deliver(holder, [this, alive, holder, report] {
      if (alive()) on_report(holder, report);
    });
  };
  const auto vacant = [this, alive, id](std::size_t gateway, const std::optional<Room>& room) {
    time_.after(latency(), [this, alive, id, gateway, room] {
      if (alive()) on_vacant(id, gateway, room);
    });
  };
  workers_.push_back(std::make_unique<SimWorker>(time_, shape, rng_.next(), send, vacant));
}

void GroupWorld::publish() {
  topology_.clear();
  for (const auto& worker : workers_) {
    if (!worker->alive()) continue;
    const SimWorker::Shape& shape = worker->shape();
    topology_.push_back({shape.id, shape.role, shape.slots, shape.places, true});
  }
  for (Gateway& gateway : gateways_) gateway.dispatcher.on_topology(topology_, time_.now());
}

void GroupWorld::plan_requests() {
  for (int i = 0; i < options_.requests; ++i) {
    const RequestId id{options_.seed, static_cast<std::uint64_t>(i)};
    const Time when =
        time_.now() + Duration(static_cast<std::int64_t>(
                          rng_.below(static_cast<std::uint64_t>(options_.arrive_within.count()))));
    const auto wanted =
        static_cast<std::uint32_t>(1 + rng_.below(static_cast<std::uint64_t>(options_.output_max)));
    const bool leaves = rng_.unit() < options_.cancel_share;
    const Duration patience = milliseconds(rng_.below(500));
    ++unfinished_;
    const bool quiet = options_.quiet_every > 0 && i % options_.quiet_every == 0;
    const std::size_t gateway = choose_gateway();
    time_.at(when, [this, id, wanted, quiet, gateway] { submit(id, wanted, quiet, gateway); });
    if (!leaves) continue;
    time_.at(when + patience, [this, id] {
      gateways_[outcomes_.at(id).gateway].dispatcher.cancel(id, time_.now());
    });
  }
}

// By their shares of the requests; draws nothing where there is one.
std::size_t GroupWorld::choose_gateway() {
  std::size_t chosen = 0;
  if (gateways_.size() == 1) return chosen;
  unsigned all = 0;
  for (const unsigned share : options_.gateways) all += share;
  for (auto draw = rng_.below(all); draw >= options_.gateways[chosen]; ++chosen)
    draw -= options_.gateways[chosen];
  return chosen;
}

// To the next one, where the client finds its gateway dead.
void GroupWorld::submit(RequestId id, std::uint32_t wanted, bool quiet, std::size_t gateway) {
  while (!gateways_[gateway].alive) gateway = (gateway + 1) % gateways_.size();
  Outcome& outcome = outcomes_[id];
  outcome.gateway = gateway;
  outcome.quiet = quiet;
  outcome.wanted = wanted;
  outcome.submitted = time_.now();
  outcome.first_limit = time_.now() + options_.ttft_limit;
  gateways_[gateway].dispatcher.submit(
      {.request = id,
       .deadlines = {outcome.first_limit, time_.now() + options_.total_limit},
       .tenant = policy::TenantId(quiet ? 2 : 1),
       .prompt = prompt_of(id),
       .output_max = Tokens(wanted)},
      time_.now());
}

void GroupWorld::plan_faults() {
  const auto plan = [this](int count, const char* how) {
    for (int i = 0; i < count; ++i) {
      const Duration when(static_cast<std::int64_t>(
          rng_.below(static_cast<std::uint64_t>(options_.arrive_within.count()))));
      time_.after(when, [this, how] { hurt(how); });
    }
  };
  for (int i = 0; i < options_.gateway_kills; ++i)
    time_.after(options_.arrive_within * (i + 1) / (options_.gateway_kills + 1),
                [this] { kill_gateway(); });
  plan(options_.kills, "kill");
  plan(options_.vanishes, "vanish");
  plan(options_.freezes, "freeze");
}

void GroupWorld::hurt(const std::string& how) {
  std::vector<SimWorker*> living;
  for (const auto& worker : workers_) {
    if (worker->alive() && !worker->frozen()) living.push_back(worker.get());
  }
  if (living.empty()) return;
  SimWorker& victim = *living[rng_.below(living.size())];
  note(how, victim.shape().id.value(), 0);
  if (how == "freeze") {
    victim.freeze();
    time_.after(milliseconds(rng_.below(4000)), [&victim] { victim.thaw(); });
    return;
  }
  victim.kill();
  if (how == "kill") break_connections(victim.shape().id);
  replace(victim);
}

// As the controller does: out of the membership once noticed, one substitute later.
void GroupWorld::replace(SimWorker& worker) {
  const Duration noticed = milliseconds(50 + rng_.below(6000));
  const Role role = worker.shape().role;
  time_.after(noticed, [this] { publish(); });
  time_.after(noticed + milliseconds(100 + rng_.below(2000)), [this, role] {
    add_worker(role);
    publish();
  });
}

// Its connections are reset: each instance lets go of what was held for it, at once.
void GroupWorld::kill_gateway() {
  std::vector<Gateway*> living;
  for (Gateway& gateway : gateways_) {
    if (gateway.alive) living.push_back(&gateway);
  }
  if (living.size() < 2) return;
  Gateway& victim = *living[rng_.below(living.size())];
  note("kill gateway", victim.index, 0);
  victim.alive = false;
  for (auto& [id, outcome] : outcomes_) {
    if (outcome.gateway != victim.index || outcome.ended) continue;
    outcome.lost = true;
    --unfinished_;
    for (auto& [number, leg] : legs_[id]) {
      if (leg.over) continue;
      leg.over = true;
      const Holder holder{id, number};
      SimWorker& worker = *workers_[leg.worker.value() - 1];
      deliver(holder, [&worker, holder] { worker.cancel(holder); });
      time_.after(milliseconds(50), [this, &worker, holder] {
        check(!worker.alive() || worker.frozen() || !worker.holds(holder),
              "an instance still holds something of a dead gateway");
      });
    }
  }
}

void GroupWorld::break_connections(WorkerId worker) {
  for (auto& [request, legs] : legs_) {
    for (auto& [number, leg] : legs) {
      if (leg.worker != worker || leg.over) continue;
      const Holder holder{request, number};
      deliver(holder,
              [this, holder] { on_report(holder, LegFault{ErrorCode::kUnavailable, true}); });
    }
  }
}

void GroupWorld::run() {
  pump();
  while (breach_.empty() && time_.step()) {
    ++events_;
    pump();
    check_all();
  }
  check(unfinished_ == 0, "a request never ended");
  for (const auto& worker : workers_) {
    if (worker->alive()) check(worker->idle(), "an instance still holds something");
  }
}

// ---- what the gateway's driver does ----

void GroupWorld::pump() {
  for (Gateway& gateway : gateways_) {
    if (gateway.alive) pump(gateway);
  }
}

void GroupWorld::pump(Gateway& gateway) {
  for (int rounds = 0;; ++rounds) {
    check(rounds < 1000, "the dispatcher never comes to rest");
    const auto actions = gateway.dispatcher.poll(time_.now());
    for (const auto& action : actions) {
      std::visit([&](const auto& what) { act(gateway, what); }, action);
    }
    if (actions.empty() || !breach_.empty()) break;
  }
  const auto next = gateway.dispatcher.next_deadline();
  if (!next) return;
  check(*next > time_.now(), "the dispatcher asks to be polled without end");
  if (gateway.timer && *gateway.timer <= *next && *gateway.timer > time_.now()) return;
  gateway.timer = next;
  time_.at(*next, [] {});
}

void GroupWorld::act(Gateway& gateway, const policy::SendPrefill& action) {
  const Holder holder{action.request, action.leg};
  const bool inserted =
      legs_[action.request].emplace(action.leg, LegState{action.worker, {}, {}, false}).second;
  check(inserted, "a leg's number was used twice");
  SimWorker& worker = *workers_[action.worker.value() - 1];
  note("prefill", action.request.low, action.worker.value());
  const Outcome& outcome = outcomes_.at(action.request);
  const Tokens prompt = prompt_of(action.request);
  const Ask ask{holder, gateway.index, prompt + Tokens(outcome.got), outcome.got, outcome.wanted};
  const bool refused = !worker.alive();
  deliver(holder, [this, &worker, ask, holder, refused] {
    if (!worker.alive() && refused)
      on_report(holder, LegFault{ErrorCode::kUnavailable, true});
    else
      worker.prefill(ask);
  });
}

void GroupWorld::act(Gateway& gateway, const policy::SendDecode& action) {
  const Holder holder{action.request, action.leg};
  const Holder source = kv_of_.at(action.request);
  const bool inserted =
      legs_[action.request].emplace(action.leg, LegState{action.worker, source, {}, false}).second;
  check(inserted, "a leg's number was used twice");
  SimWorker& worker = *workers_[action.worker.value() - 1];
  SimWorker* p = workers_[legs_[action.request].at(source.attempt).worker.value() - 1].get();
  note("decode", action.request.low, action.worker.value());
  const Outcome& outcome = outcomes_.at(action.request);
  const Tokens prompt = prompt_of(action.request);
  const Ask ask{holder,      gateway.index,  prompt,
                outcome.got, outcome.wanted, gateway.dispatcher.find(action.request)->evictions()};
  const bool refused = !worker.alive();
  deliver(holder, [this, &worker, ask, holder, source, p, refused] {
    if (!worker.alive() && refused)
      on_report(holder, LegFault{ErrorCode::kUnavailable, true});
    else
      worker.decode(ask, source, p);
  });
}

void GroupWorld::act(Gateway&, const policy::Cancel& action) {
  const Holder holder{action.request, action.leg};
  LegState& leg = legs_[action.request].at(action.leg);
  check(leg.worker == action.worker, "a leg is cancelled on another instance than it runs on");
  leg.over = true;
  SimWorker& worker = *workers_[action.worker.value() - 1];
  note("cancel", action.request.low, action.leg);
  deliver(holder, [&worker, holder] { worker.cancel(holder); });
}

void GroupWorld::act(Gateway& gateway, const policy::Finish& action) {
  Outcome& outcome = outcomes_.at(action.request);
  check(outcome.gateway == gateway.index, "a request ended on another gateway than its own");
  check(!outcome.ended, "a request ended twice");
  outcome.ended = time_.now();
  outcome.end = action.end;
  outcome.record = action.record;
  check(action.record.total() == time_.now() - outcome.submitted,
        "the stages' times do not sum to the request's");
  --unfinished_;
  note("finish", action.request.low, static_cast<std::uint64_t>(action.end.why));
  if (action.end.why == policy::RequestEnd::Why::kCompleted)
    check(outcome.got == outcome.wanted, "a completed request lacks tokens");
}

void GroupWorld::act(Gateway& gateway, const policy::Renew& action) {
  std::vector<Holder> held;
  for (const auto& one : action.held) held.push_back({one.request, one.leg});
  SimWorker& worker = *workers_[action.worker.value() - 1];
  const WorkerId id = action.worker;
  time_.after(latency(), [this, &gateway, &worker, held, id] {
    if (!gateway.alive) return;
    worker.renew(held, [this, &gateway, &worker, id](const std::vector<Holder>& unknown) {
      time_.after(latency(), [this, &gateway, &worker, id, unknown] {
        if (!worker.alive() || !gateway.alive) return;
        std::vector<policy::Renew::Held> out;
        for (const Holder& holder : unknown) out.push_back({holder.request, holder.attempt});
        gateway.dispatcher.on_heard(id, out, time_.now());
      });
    });
  });
}

void GroupWorld::deliver(const Holder& holder, std::function<void()> what) {
  LegState& leg = legs_[holder.request].at(holder.attempt);
  leg.last_delivery = std::max(leg.last_delivery, time_.now() + latency());
  time_.at(leg.last_delivery, std::move(what));
}

void GroupWorld::on_report(const Holder& holder, const Report& report) {
  const RequestId request = holder.request;
  const LegNumber leg = holder.attempt;
  LegState& state = legs_[request].at(leg);
  if (state.over) return;  // its connection is closed
  const Time now = time_.now();
  policy::Dispatcher& dispatcher = gateways_[outcomes_.at(request).gateway].dispatcher;
  note("report", request.low, (std::uint64_t{leg} << 8) | report.index());
  if (std::holds_alternative<Accepted>(report)) {
    dispatcher.on_accepted(request, leg, now);
  } else if (const auto* stated = std::get_if<Room>(&report)) {
    dispatcher.on_room(state.worker, stated->room, now);
  } else if (const auto* rejected = std::get_if<Rejected>(&report)) {
    state.over = true;
    ++rejections_;
    dispatcher.on_rejected(request, leg, rejected->hint, now);
  } else if (const auto* token = std::get_if<Token>(&report)) {
    if (!dispatcher.on_tokens(request, leg, token->index, 1, token->finished, now)) return;
    Outcome& outcome = outcomes_.at(request);
    check(!outcome.ended, "a token after the end");
    check(token->index == outcome.got, "a token is missing or doubled");
    if (outcome.got++ == 0) outcome.first = now;
    if (state.source == Holder{} && !token->finished) {
      kv_of_[request] = holder;
      dispatcher.on_prefilled(request, leg, now);
    }
  } else if (std::holds_alternative<Joined>(report)) {
    dispatcher.on_joined(request, leg, now);
  } else if (const auto* released = std::get_if<Released>(&report)) {
    state.over = true;
    dispatcher.on_released(request, leg, released->pulled, now);
  } else if (std::holds_alternative<Evicted>(report)) {
    state.over = true;
    ++evictions_;
    dispatcher.on_evicted(request, leg, now);
  } else if (const auto* fault = std::get_if<LegFault>(&report)) {
    state.over = true;
    dispatcher.on_fault(request, leg, {fault->code, "simulated"},
                        fault->worker_fault ? policy::Blame::kBroke : policy::Blame::kNobody, now);
  }
}

void GroupWorld::on_vacant(WorkerId worker, std::size_t gateway, const std::optional<Room>& room) {
  if (!gateways_[gateway].alive) return;
  policy::Dispatcher& dispatcher = gateways_[gateway].dispatcher;
  note("vacant", worker.value(), gateway);
  if (room) dispatcher.on_room(worker, room->room, time_.now());
  dispatcher.on_vacant(worker);
}

// ---- what must hold ----

void GroupWorld::note(std::string_view what, std::uint64_t a, std::uint64_t b) {
  const auto time = static_cast<std::uint64_t>(time_.now().time_since_epoch().count());
  hash_ = mix64(hash_ ^ time);
  for (const char c : what) hash_ = mix64(hash_ ^ static_cast<std::uint64_t>(c));
  hash_ = mix64(mix64(hash_ ^ a) ^ b);
}

void GroupWorld::check(bool holds, std::string_view what) {
  if (holds || !breach_.empty()) return;
  breach_ = fmt::format("seed {}, {:.6f} s: {}", options_.seed,
                        to_seconds(time_.now().time_since_epoch()) - 1000, what);
}

void GroupWorld::check_all() {
  std::size_t running = 0, in_flight = 0;
  for (const auto& [id, outcome] : outcomes_) running += !outcome.ended && !outcome.lost;
  for (const auto& [index, dispatcher, timer, alive] : gateways_) {
    if (!alive) continue;
    in_flight += dispatcher.in_flight();
    check(dispatcher.waiting() <= dispatcher.in_flight(), "more wait than there are");
  }
  check(running == in_flight, "requests in flight are not those that have not ended");
}

}  // namespace pd::sim
