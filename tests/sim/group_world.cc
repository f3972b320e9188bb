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

GroupWorld::GroupWorld(const WorldOptions& options)
    : options_(options), rng_(options.seed), dispatcher_(options.dispatcher) {
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
  workers_.push_back(std::make_unique<SimWorker>(time_, shape, rng_.next(),
                                                 [this, id](const Holder& holder, Report report) {
                                                   deliver(holder, [this, id, holder, report] {
                                                     // What a connection still carries when it is
                                                     // reset is lost.
                                                     if (workers_[id.value() - 1]->alive())
                                                       on_report(holder, report);
                                                   });
                                                 }));
}

void GroupWorld::publish() {
  topology_.clear();
  for (const auto& worker : workers_) {
    if (!worker->alive()) continue;
    const SimWorker::Shape& shape = worker->shape();
    topology_.push_back({shape.id, shape.role, shape.slots, shape.places, true});
  }
  dispatcher_.on_topology(topology_, time_.now());
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
    time_.at(when, [this, id, wanted, quiet] {
      Outcome& outcome = outcomes_[id];
      outcome.quiet = quiet;
      outcome.wanted = wanted;
      outcome.submitted = time_.now();
      outcome.first_limit = time_.now() + options_.ttft_limit;
      dispatcher_.submit({.request = id,
                          .deadlines = {outcome.first_limit, time_.now() + options_.total_limit},
                          .tenant = policy::TenantId(quiet ? 2 : 1),
                          .prompt = prompt_of(id),
                          .output_max = Tokens(wanted)},
                         time_.now());
    });
    if (leaves) time_.at(when + patience, [this, id] { dispatcher_.cancel(id, time_.now()); });
  }
}

void GroupWorld::plan_faults() {
  const auto plan = [this](int count, const char* how) {
    for (int i = 0; i < count; ++i) {
      const Duration when(static_cast<std::int64_t>(
          rng_.below(static_cast<std::uint64_t>(options_.arrive_within.count()))));
      time_.after(when, [this, how] { hurt(how); });
    }
  };
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
  for (int rounds = 0;; ++rounds) {
    check(rounds < 1000, "the dispatcher never comes to rest");
    const auto actions = dispatcher_.poll(time_.now());
    for (const auto& action : actions) {
      std::visit([this](const auto& what) { act(what); }, action);
    }
    if (actions.empty() || !breach_.empty()) break;
  }
  const auto next = dispatcher_.next_deadline();
  if (!next) return;
  check(*next > time_.now(), "the dispatcher asks to be polled without end");
  if (timer_ && *timer_ <= *next && *timer_ > time_.now()) return;
  timer_ = next;
  time_.at(*next, [] {});
}

void GroupWorld::act(const policy::SendPrefill& action) {
  const Holder holder{action.request, action.leg};
  const bool inserted =
      legs_[action.request].emplace(action.leg, LegState{action.worker, {}, {}, false}).second;
  check(inserted, "a leg's number was used twice");
  SimWorker& worker = *workers_[action.worker.value() - 1];
  note("prefill", action.request.low, action.worker.value());
  const Outcome& outcome = outcomes_.at(action.request);
  const Tokens prompt = prompt_of(action.request);
  const Ask ask{holder, prompt + Tokens(outcome.got), outcome.got, outcome.wanted};
  const bool refused = !worker.alive();
  deliver(holder, [this, &worker, ask, holder, refused] {
    if (!worker.alive() && refused)
      on_report(holder, LegFault{ErrorCode::kUnavailable, true});
    else
      worker.prefill(ask);
  });
}

void GroupWorld::act(const policy::SendDecode& action) {
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
  const Ask ask{holder, prompt, outcome.got, outcome.wanted,
                dispatcher_.find(action.request)->evictions()};
  const bool refused = !worker.alive();
  deliver(holder, [this, &worker, ask, holder, source, p, refused] {
    if (!worker.alive() && refused)
      on_report(holder, LegFault{ErrorCode::kUnavailable, true});
    else
      worker.decode(ask, source, p);
  });
}

void GroupWorld::act(const policy::Cancel& action) {
  const Holder holder{action.request, action.leg};
  LegState& leg = legs_[action.request].at(action.leg);
  check(leg.worker == action.worker, "a leg is cancelled on another instance than it runs on");
  leg.over = true;
  SimWorker& worker = *workers_[action.worker.value() - 1];
  note("cancel", action.request.low, action.leg);
  deliver(holder, [&worker, holder] { worker.cancel(holder); });
}

void GroupWorld::act(const policy::Finish& action) {
  Outcome& outcome = outcomes_.at(action.request);
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

void GroupWorld::act(const policy::Renew& action) {
  std::vector<Holder> held;
  for (const auto& one : action.held) held.push_back({one.request, one.leg});
  SimWorker& worker = *workers_[action.worker.value() - 1];
  const WorkerId id = action.worker;
  time_.after(latency(), [this, &worker, held, id] {
    worker.renew(held, [this, &worker, id](const std::vector<Holder>& unknown) {
      time_.after(latency(), [this, &worker, id, unknown] {
        if (!worker.alive()) return;
        std::vector<policy::Renew::Held> out;
        for (const Holder& holder : unknown) out.push_back({holder.request, holder.attempt});
        dispatcher_.on_heard(id, out, time_.now());
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
  note("report", request.low, (std::uint64_t{leg} << 8) | report.index());
  if (std::holds_alternative<Accepted>(report)) {
    dispatcher_.on_accepted(request, leg, now);
  } else if (const auto* stated = std::get_if<Room>(&report)) {
    dispatcher_.on_room(state.worker, stated->room, now);
  } else if (const auto* rejected = std::get_if<Rejected>(&report)) {
    state.over = true;
    ++rejections_;
    dispatcher_.on_rejected(request, leg, rejected->hint, now);
  } else if (const auto* token = std::get_if<Token>(&report)) {
    if (!dispatcher_.on_tokens(request, leg, token->index, 1, token->finished, now)) return;
    Outcome& outcome = outcomes_.at(request);
    check(!outcome.ended, "a token after the end");
    check(token->index == outcome.got, "a token is missing or doubled");
    if (outcome.got++ == 0) outcome.first = now;
    if (state.source == Holder{} && !token->finished) {
      kv_of_[request] = holder;
      dispatcher_.on_prefilled(request, leg, now);
    }
  } else if (std::holds_alternative<Joined>(report)) {
    dispatcher_.on_joined(request, leg, now);
  } else if (const auto* released = std::get_if<Released>(&report)) {
    state.over = true;
    dispatcher_.on_released(request, leg, released->pulled, now);
  } else if (std::holds_alternative<Evicted>(report)) {
    state.over = true;
    ++evictions_;
    dispatcher_.on_evicted(request, leg, now);
  } else if (const auto* fault = std::get_if<LegFault>(&report)) {
    state.over = true;
    dispatcher_.on_fault(request, leg, {fault->code, "simulated"},
                         fault->worker_fault ? policy::Blame::kBroke : policy::Blame::kNobody, now);
  }
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
  std::size_t running = 0;
  for (const auto& [id, outcome] : outcomes_) running += !outcome.ended;
  check(running == dispatcher_.in_flight(), "requests in flight are not those that have not ended");
  check(dispatcher_.waiting() <= dispatcher_.in_flight(), "more wait than there are");
}

}  // namespace pd::sim
