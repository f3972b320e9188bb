#include "gateway/leg_driver.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "base/log.h"
#include "base/text.h"

namespace pd::gateway {

using policy::LegNumber;

namespace {

policy::DecodeRoom room_of(const protocol::Room& stated) {
  return {.requests = stated.requests,
          .places = stated.places,
          .free = BlockCount(stated.blocks_free),
          .spare = BlockCount(stated.blocks_spare),
          .block_tokens = Tokens(stated.block_tokens),
          .growth = Tokens(stated.growth_tokens),
          .hold = std::chrono::microseconds(stated.hold_us)};
}

}  // namespace

LegDriver::Counters::Counters(Metrics& metrics, const Metrics::Labels& gauge_labels)
    : rejections(metrics.counter("pdserve_rejections_total",
                                 "legs that a worker rejected because it was busy")),
      faults(metrics.counter("pdserve_leg_faults_total", "legs that ended without a result")),
      restarts_evicted(metrics.counter("pdserve_evictions_total",
                                       "requests placed again because D ran out of blocks")),
      restarts(metrics.counter("pdserve_restarts_total",
                               "placements of requests after their first, for whatever cause")),
      handoff_bytes(
          metrics.counter("pdserve_handoff_bytes_total", "KV bytes that decode instances pulled")),
      handoffs(metrics.counter("pdserve_handoffs_total", "handoffs that completed")),
      hedges(metrics.counter("pdserve_hedged_prefills_total",
                             "prefills that were slow and got a second one beside them")),
      hedges_won(metrics.counter("pdserve_hedged_prefills_won_total",
                                 "those whose first token came from the second one")),
      whole(metrics.counter("pdserve_decoded_where_prefilled_total",
                            "decode legs that an aggregated instance serves by itself")),
      waiting(metrics.gauge("pdserve_requests_waiting",
                            "requests (choices) that wait here for a place on an instance")),
      silent(metrics.gauge("pdserve_instances_silent",
                           "instances that do not answer and are not asked until they do",
                           gauge_labels)),
      transfer_seconds(metrics.histogram(
          "pdserve_handoff_seconds", "time to pull and scatter one request's KV",
          {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5})) {}

LegDriver::LegDriver(net::EventLoop& loop, net::HttpClient& http,
                     const policy::DispatcherOptions& options, std::string secret, Metrics& metrics,
                     const Metrics::Labels& gauge_labels)
    : loop_(loop),
      http_(http),
      dispatcher_(options),
      secret_(std::move(secret)),
      counters_(metrics, gauge_labels),
      channels_(
          loop, http, secret_,
          {.on_frame = [this](WorkerId worker,
                              const protocol::LegFrame& frame) { on_leg_frame(worker, frame); },
           .on_read =
               [this] {
                 pumping_ = false;
                 if (pump_again_) pump();
               },
           .on_lost = [this](WorkerId worker, const Error& error,
                             bool again) { on_channel_lost(worker, error, again); },
           .on_open =
               [this](WorkerId worker) {
                 dispatcher_.on_reachable(worker);
                 pump();
               }}) {}

LegDriver::~LegDriver() {
  if (timer_at_) loop_.cancel(timer_);
  for (const auto call : renewals_) http_.cancel(call);
}

void LegDriver::on_topology(const protocol::Topology& topology) {
  layout_hash_ = topology.layout_hash;
  std::vector<policy::Member> members;
  std::map<WorkerId, InstanceChannels::Place> places;
  for (const protocol::Instance& instance : topology.instances) {
    auto address = net::parse_address(instance.address);
    if (!address) {
      log::error("instance {} has an unusable address '{}'", instance.id.value(), instance.address);
      continue;
    }
    places[instance.id] = {*address, instance.role, instance.admits};
    members.push_back({instance.id, instance.role, instance.slots, instance.batch_places,
                       instance.admits, instance.kv_max});
  }
  dispatcher_.on_topology(members, loop_.now());
  channels_.follow(places);  // the dispatcher has given up the legs on those that go
  pump();
}

void LegDriver::start(Job job, JobObserver observer) {
  const RequestId id = job.id;
  policy::Submission submission{.request = id,
                                .deadlines = job.deadlines,
                                .tenant = job.tenant,
                                .priority = job.priority,
                                .prompt = Tokens(static_cast<std::int64_t>(job.prompt->size())),
                                .output_max = job.sampling.max_tokens,
                                .prefix = std::move(job.prefix)};
  jobs_.emplace(id, Running{std::move(job), std::move(observer), {}, {}, false, {}});
  dispatcher_.submit(std::move(submission), loop_.now());
  pump();
}

void LegDriver::cancel(RequestId id) {
  dispatcher_.cancel(id, loop_.now());
  pump();
}

void LegDriver::cancel_all() {
  for (const auto& [id, running] : jobs_) dispatcher_.cancel(id, loop_.now());
  pump();
}

// Runs until the dispatcher wants nothing more, then sleeps until it says so. Actions may report
// back at once (a refused connection), so a pump inside a pump only asks for another round.
void LegDriver::pump() {
  pump_again_ = true;
  if (pumping_) return;
  pumping_ = true;
  while (std::exchange(pump_again_, false)) {
    for (const policy::DispatchAction& action : dispatcher_.poll(loop_.now())) {
      std::visit([this](const auto& what) { act(what); }, action);
    }
  }
  pumping_ = false;
  counters_.silent.set(dispatcher_.silent());
  counters_.waiting.set(static_cast<double>(dispatcher_.waiting()));
  const std::uint64_t restarts = dispatcher_.restarts();
  counters_.restarts.add(static_cast<double>(restarts - std::exchange(restarts_, restarts)));
  const auto next = dispatcher_.next_deadline();
  if (next == timer_at_) return;
  if (timer_at_) loop_.cancel(timer_);
  timer_at_ = next;
  if (!next) return;
  timer_ = loop_.call_at(*next, [this] {
    timer_at_.reset();
    pump();
  });
}

std::uint32_t LegDriver::time_left_ms(const Job& job) const {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(job.deadlines.total - loop_.now())
          .count();
  return static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(left, 0, std::numeric_limits<std::uint32_t>::max()));
}

// ---- actions ----

void LegDriver::act(const policy::SendPrefill& action) {
  const Running& running = jobs_.at(action.request);
  protocol::PrefillRequest message;
  message.id = {action.request, action.leg};
  message.layout_hash = layout_hash_;
  message.deadline_ms = time_left_ms(running.job);
  message.tenant_salt = running.job.tenant_salt;
  message.prompt = *running.job.prompt;
  message.emitted = running.emitted;
  message.sampling = running.job.sampling;
  // The prompt's own logprobs were delivered by the first prefill.
  if (running.prefilled_once) message.sampling.prompt_logprobs.reset();
  begin(action.worker, true, message);
  const auto* life = dispatcher_.find(action.request);
  Leg* leg = find(action.request, action.leg);
  if (leg == nullptr || life == nullptr || !life->hedge_leg()) return;
  leg->hedge = life->hedge_leg()->number == action.leg;
  if (leg->hedge) counters_.hedges.add();
}

void LegDriver::act(const policy::SendDecode& action) {
  const Running& running = jobs_.at(action.request);
  protocol::DecodeRequest message;
  message.id = {action.request, action.leg};
  message.layout_hash = layout_hash_;
  message.deadline_ms = time_left_ms(running.job);
  message.prompt_tokens = static_cast<std::uint32_t>(running.job.prompt->size());
  message.prompt_last = running.job.prompt->back();
  if (running.job.sampling.repetition_penalty != 1.0F) message.prompt = *running.job.prompt;
  message.emitted = running.emitted;
  if (const auto* life = dispatcher_.find(action.request))
    message.evictions = static_cast<std::uint32_t>(life->evictions());
  message.streamed = running.job.streamed;
  message.sampling = running.job.sampling;
  message.descriptor = running.descriptor;
  for (const auto& [number, leg] : running.legs) {
    if (leg.prefill && leg.worker == action.worker) counters_.whole.add();
  }
  begin(action.worker, false, message);
}

template <typename Message>
void LegDriver::begin(WorkerId worker, bool prefill, const Message& message) {
  const auto& [id, number] = message.id;
  Leg& leg = jobs_.at(id).legs[number];
  leg.worker = worker;
  leg.prefill = prefill;
  legs::LegChannel* channel = channels_.find(worker);
  if (channel == nullptr)
    return fault(id, number, {ErrorCode::kUnavailable, "the instance left the group"},
                 policy::Blame::kNobody);
  channel->start(message);
}

void LegDriver::act(const policy::Cancel& action) {
  const auto running = jobs_.find(action.request);
  if (running == jobs_.end() || running->second.legs.erase(action.leg) == 0) return;
  if (legs::LegChannel* channel = channels_.find(action.worker))
    channel->cancel({action.request, action.leg});
}

// Legs that have not been cancelled end by themselves; their frames find no job and do nothing.
void LegDriver::act(const policy::Finish& action) {
  const auto it = jobs_.find(action.request);
  if (it == jobs_.end()) return;
  const Running running = std::move(it->second);
  jobs_.erase(it);
  running.observer.on_end(action);
}

void LegDriver::act(const policy::Renew& action) {
  const legs::LegChannel* channel = channels_.find(action.worker);
  if (channel == nullptr) return;
  protocol::LeaseList list;
  for (const auto& held : action.held) list.held.push_back({held.request, held.leg});
  net::HttpCall call;
  call.address = channel->address();
  call.target = "/pd/v1/renew";
  call.headers = {{"authorization", "Bearer " + secret_},
                  {"content-type", "application/octet-stream"}};
  call.body = protocol::encode(list);
  call.read_timeout =
      std::chrono::seconds(10);  // the dispatcher notices silence long before; this frees the call
  const auto slot = std::make_shared<net::HttpClient::CallId>(0);
  *slot = http_.fetch(std::move(call),
                      [this, slot, worker = action.worker](Result<net::HttpClient::Whole> answer) {
                        renewals_.erase(*slot);
                        if (!answer || answer->status != 200) return;
                        const auto heard = protocol::decode_lease_answer(answer->body);
                        if (!heard) return;
                        if (heard->room)
                          dispatcher_.on_room(worker, room_of(*heard->room), loop_.now());
                        std::vector<policy::Renew::Held> held;
                        for (const auto& attempt : heard->unknown)
                          held.push_back({attempt.request, attempt.attempt});
                        dispatcher_.on_heard(worker, held, loop_.now());
                        pump();
                      });
  renewals_.insert(*slot);
}

// ---- what legs report ----

LegDriver::Leg* LegDriver::find(RequestId id, LegNumber number) {
  const auto running = jobs_.find(id);
  if (running == jobs_.end()) return nullptr;
  const auto leg = running->second.legs.find(number);
  return leg == running->second.legs.end() ? nullptr : &leg->second;
}

// Nothing is decided before the whole read has been taken in: what one frame's observer asks for
// must not take away the leg of the next.
void LegDriver::on_leg_frame(WorkerId worker, const protocol::LegFrame& frame) {
  pumping_ = true;
  if (frame.leg == protocol::kNoLeg) return on_word(worker, frame.frame);
  const auto job = jobs_.find(frame.leg.request);
  if (job == jobs_.end()) return;
  const auto leg = job->second.legs.find(frame.leg.attempt);
  // Of a leg that was given up meanwhile.
  if (leg == job->second.legs.end() || leg->second.worker != worker) return;
  if (const auto* failed = std::get_if<protocol::Fault>(&frame.frame)) {
    fault(frame.leg.request, frame.leg.attempt, {failed->code, failed->message},
          failed->code == ErrorCode::kInternal ? policy::Blame::kBroke : policy::Blame::kNobody);
    return;
  }
  if (on_frame(frame.leg, job->second, leg->second, frame.frame)) pump_again_ = true;
  if (leg->second.concluded) job->second.legs.erase(leg);
}

// What an instance says of itself.
void LegDriver::on_word(WorkerId worker, const protocol::Frame& frame) {
  const Time now = loop_.now();
  if (const auto* room = std::get_if<protocol::Room>(&frame)) {
    dispatcher_.on_room(worker, room_of(*room), now);
  } else if (std::holds_alternative<protocol::Vacant>(frame)) {
    dispatcher_.on_vacant(worker);
    pump_again_ = true;
  }
}

bool LegDriver::on_frame(const protocol::AttemptId& attempt, Running& running, Leg& leg,
                         const protocol::Frame& frame) {
  const Time now = loop_.now();
  const auto& [id, number] = attempt;
  if (std::holds_alternative<protocol::Accepted>(frame)) {
    dispatcher_.on_accepted(id, number, now);
  } else if (const auto* room = std::get_if<protocol::Room>(&frame)) {
    dispatcher_.on_room(leg.worker, room_of(*room), now);
    return false;  // the answer that it came with follows
  } else if (const auto* rejected = std::get_if<protocol::Rejected>(&frame)) {
    leg.concluded = true;
    counters_.rejections.add();
    dispatcher_.on_rejected(id, number, std::chrono::microseconds(rejected->retry_after_us), now);
  } else if (const auto* tokens = std::get_if<protocol::TokensFrame>(&frame)) {
    const bool finished = tokens->finish != protocol::FinishReason::kNone;
    if (finished) leg.concluded = true;
    const auto count = static_cast<std::uint32_t>(tokens->ids.size());
    if (!dispatcher_.on_tokens(id, number, tokens->index, count, finished, now)) return true;
    if (leg.prefill) running.descriptor = std::move(leg.descriptor);
    if (leg.hedge) counters_.hedges_won.add();
    running.emitted.insert(running.emitted.end(), tokens->ids.begin(), tokens->ids.end());
    running.observer.on_tokens(*tokens);
    // Most frames are tokens of D, and a poll costs time for every worker of the group.
    if (!leg.prefill) return finished;
    if (!finished) dispatcher_.on_prefilled(id, number, now);
  } else if (const auto* prefilled = std::get_if<protocol::Prefilled>(&frame)) {
    leg.descriptor = prefilled->descriptor;
    const auto computed =
        static_cast<std::int64_t>(running.job.prompt->size() + running.emitted.size()) -
        prefilled->cached_tokens;
    dispatcher_.on_prefill_measured(Tokens(std::max<std::int64_t>(computed, 0)),
                                    std::chrono::microseconds(prefilled->compute_us));
    if (!std::exchange(running.prefilled_once, true)) running.observer.on_prefilled(*prefilled);
  } else if (const auto* joined = std::get_if<protocol::Joined>(&frame)) {
    counters_.handoffs.add();
    counters_.handoff_bytes.add(static_cast<double>(joined->bytes));
    counters_.transfer_seconds.observe(joined->transfer_us * 1e-6);
    dispatcher_.on_joined(id, number, now);
  } else if (const auto* released = std::get_if<protocol::Released>(&frame)) {
    leg.concluded = true;
    dispatcher_.on_released(id, number, released->why == protocol::Released::Why::kPulled, now);
  } else if (std::holds_alternative<protocol::Evicted>(frame)) {
    leg.concluded = true;
    counters_.restarts_evicted.add();
    dispatcher_.on_evicted(id, number, now);
  }
  return true;
}

void LegDriver::on_channel_lost(WorkerId worker, const Error& error, bool again) {
  std::vector<protocol::AttemptId> lost;
  for (const auto& [id, running] : jobs_) {
    for (const auto& [number, leg] : running.legs) {
      if (leg.worker == worker) lost.push_back({id, number});
    }
  }
  std::ranges::sort(lost);  // the same order in every run
  pumping_ = false;         // the read that was under way, if any, is over
  if (!lost.empty())
    log::warn("instance {}: {}; {} legs on it are given up", worker.value(), error.message,
              lost.size());
  else if (!again)
    log::info("instance {}: {}; its channel is opened again when it answers", worker.value(),
              error.message);
  const auto how =
      error.code == ErrorCode::kCancelled ? policy::Blame::kDiedOnReceipt : policy::Blame::kBroke;
  for (const auto& [id, number] : lost) give_up(id, number, error, how);
  dispatcher_.on_unreachable(worker, loop_.now());
  pump();
}

void LegDriver::fault(RequestId id, LegNumber number, const Error& error, policy::Blame blame) {
  if (const Leg* leg = find(id, number)) {
    log::warn("request {} leg {} on instance {}: {}", to_string(id), number, leg->worker.value(),
              error.message);
    give_up(id, number, error, blame);
  }
}

void LegDriver::give_up(RequestId id, LegNumber number, const Error& error, policy::Blame blame) {
  counters_.faults.add();
  jobs_.at(id).legs.erase(number);
  dispatcher_.on_fault(id, number, error, blame, loop_.now());
  pump_again_ = true;
}

}  // namespace pd::gateway
