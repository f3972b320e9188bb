#include "gateway/leg_driver.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "base/log.h"
#include "base/rng.h"
#include "base/text.h"

namespace pd::gateway {

using policy::LegNumber;

namespace {

constexpr Duration kMissingTokensMax = std::chrono::seconds(1);

// Two gateways must not have the same on an instance, nor 0.
std::uint64_t session_of(std::uint64_t seed) { return counter_random(seed, 0x746f6b656e73) | 1; }

}  // namespace

namespace {

// For a worker to end a stream when all has been said; P has to hear from D first.
constexpr Duration kStreamEndMax = std::chrono::seconds(2);

policy::DecodeRoom room_of(const protocol::Room& stated) {
  return {.requests = stated.requests,
          .places = stated.places,
          .free = BlockCount(stated.blocks_free),
          .spare = BlockCount(stated.blocks_spare),
          .block_tokens = Tokens(stated.block_tokens),
          .growth = Tokens(stated.growth_tokens)};
}

}  // namespace

LegDriver::Counters::Counters(Metrics& metrics, const Metrics::Labels& gauge_labels)
    : rejections(metrics.counter("pdserve_rejections_total",
                                 "legs that a worker rejected because it was busy")),
      faults(metrics.counter("pdserve_leg_faults_total", "legs that ended without a result")),
      restarts_evicted(metrics.counter("pdserve_evictions_total",
                                       "requests placed again because D ran out of blocks")),
      handoff_bytes(
          metrics.counter("pdserve_handoff_bytes_total", "KV bytes that decode instances pulled")),
      handoffs(metrics.counter("pdserve_handoffs_total", "handoffs that completed")),
      hedges(metrics.counter("pdserve_hedged_prefills_total",
                             "prefills that were slow and got a second one beside them")),
      hedges_won(metrics.counter("pdserve_hedged_prefills_won_total",
                                 "those whose first token came from the second one")),
      whole(metrics.counter("pdserve_decoded_where_prefilled_total",
                            "decode legs that an aggregated instance serves by itself")),
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
      token_streams_(
          loop, http, secret_, session_of(options.seed),
          [this](const protocol::LegFrame& frame) { on_leg_frame(frame); },
          [this] {
            if (std::exchange(tokens_changed_, false)) pump();
          }) {}

LegDriver::~LegDriver() {
  if (timer_at_) loop_.cancel(timer_);
  for (const auto& [id, running] : jobs_) {
    for (const auto& [number, leg] : running.legs) http_.cancel(leg.call);
  }
  for (const auto call : renewals_) http_.cancel(call);
  for (const auto& [due, call] : ending_) http_.cancel(call);
  if (!ending_.empty()) loop_.cancel(ending_timer_);
}

void LegDriver::on_topology(const protocol::Topology& topology) {
  layout_hash_ = topology.layout_hash;
  std::vector<policy::Member> members;
  addresses_.clear();
  std::map<WorkerId, net::HttpAddress> decoders;
  for (const protocol::Instance& instance : topology.instances) {
    auto address = net::parse_address(instance.address);
    if (!address) {
      log::error("instance {} has an unusable address '{}'", instance.id.value(), instance.address);
      continue;
    }
    addresses_[instance.id] = *address;
    if (instance.role != Role::kPrefill) decoders[instance.id] = *address;
    members.push_back(
        {instance.id, instance.role, instance.slots, instance.batch_places, instance.admits});
  }
  token_streams_.follow(decoders);
  dispatcher_.on_topology(members, loop_.now());
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

net::HttpCall LegDriver::call_to(WorkerId worker, const char* target, std::string body) const {
  net::HttpCall call;
  call.address = addresses_.at(worker);
  call.target = target;
  call.headers = {{"authorization", "Bearer " + secret_},
                  {"content-type", "application/octet-stream"}};
  call.body = std::move(body);
  return call;
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
  send(action.request, action.leg, action.worker, "/pd/v1/prefill", true,
       protocol::encode(message));
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
  message.sampling = running.job.sampling;
  message.descriptor = running.descriptor;
  message.session = token_streams_.session_at(action.worker);
  for (const auto& [number, leg] : running.legs) {
    if (leg.prefill && leg.worker == action.worker) counters_.whole.add();
  }
  send(action.request, action.leg, action.worker, "/pd/v1/decode", false,
       protocol::encode(message));
  if (Leg* leg = find(action.request, action.leg)) leg->shared = message.session != 0;
}

void LegDriver::send(RequestId id, LegNumber number, WorkerId worker, const char* target,
                     bool prefill, std::string body) {
  Leg& leg = jobs_.at(id).legs[number];
  leg.worker = worker;
  leg.prefill = prefill;
  if (!addresses_.contains(worker)) {
    fault(id, number, {ErrorCode::kUnavailable, "the instance left the group"}, false);
    return;
  }
  net::HttpCallHandlers handlers;
  handlers.on_head = [this, id, number](int status, const std::vector<net::Header>&) {
    if (status == 200) return;
    // Not a stream of frames: the worker refused to read the message at all.
    fault(id, number,
          {ErrorCode::kIncompatible, fmt::format("the instance answered HTTP {}", status)}, true);
  };
  handlers.on_data = [this, id, number](std::string_view bytes) { on_bytes(id, number, bytes); };
  handlers.on_end = [this, id, number](const Status& status) { on_stream_end(id, number, status); };
  const auto call = http_.call(call_to(worker, target, std::move(body)), std::move(handlers));
  if (Leg* sent = find(id, number)) sent->call = call;
}

void LegDriver::act(const policy::Cancel& action) {
  const auto running = jobs_.find(action.request);
  if (running == jobs_.end()) return;
  const auto leg = running->second.legs.find(action.leg);
  if (leg == running->second.legs.end()) return;
  http_.cancel(leg->second.call);
  running->second.legs.erase(leg);
}

void LegDriver::act(const policy::Finish& action) {
  const auto it = jobs_.find(action.request);
  if (it == jobs_.end()) return;
  Running running = std::move(it->second);
  jobs_.erase(it);
  // Legs that have not been cancelled end by themselves: their callbacks find no job and do
  // nothing, and their connections are kept.
  for (const auto& [number, leg] : running.legs) let_end(leg.call);
  running.observer.on_end(action);
}

void LegDriver::let_end(net::HttpClient::CallId call) {
  const bool waiting = !ending_.empty();
  ending_.emplace_back(loop_.now() + kStreamEndMax, call);
  if (!waiting) look_at_ending();
}

// Now and then: being a little late costs less than waking up for each call.
void LegDriver::look_at_ending() {
  ending_timer_ = loop_.call_at(loop_.now() + kStreamEndMax, [this] { cut_late(); });
}

void LegDriver::cut_late() {
  for (; !ending_.empty() && ending_.front().first <= loop_.now(); ending_.pop_front())
    http_.cancel(ending_.front().second);  // no effect on one that has ended
  if (!ending_.empty()) look_at_ending();
}

void LegDriver::act(const policy::Renew& action) {
  if (!addresses_.contains(action.worker)) return;
  protocol::LeaseList list;
  for (const auto& held : action.held) list.held.push_back({held.request, held.leg});
  net::HttpCall call = call_to(action.worker, "/pd/v1/renew", protocol::encode(list));
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

void LegDriver::on_bytes(RequestId id, LegNumber number, std::string_view bytes) {
  Leg* leg = find(id, number);
  if (leg == nullptr || leg->concluded) return;
  leg->reader.feed(bytes);
  bool changed = false;
  while ((leg = find(id, number)) != nullptr && !leg->concluded) {
    const auto frame = leg->reader.next();
    if (!frame) {
      fault(id, number, frame.error(), true);
      break;
    }
    if (!*frame) break;
    changed |= on_frame(id, number, *leg, **frame);
  }
  if (changed) pump();
}

void LegDriver::on_leg_frame(const protocol::LegFrame& frame) {
  const RequestId id = frame.leg.request;
  Leg* leg = find(id, frame.leg.attempt);
  // Of a leg that was given up meanwhile.
  if (leg == nullptr || leg->concluded || leg->prefill) return;
  tokens_changed_ |= on_frame(id, frame.leg.attempt, *leg, frame.frame);
  leg = find(id, frame.leg.attempt);
  if (leg == nullptr || !leg->early_end) return;
  if (leg->early_end->index > jobs_.at(id).emitted.size()) return;
  const protocol::TokensFrame end = std::move(*leg->early_end);
  leg->early_end.reset();
  tokens_changed_ |= on_frame(id, frame.leg.attempt, *leg, end);
}

// The leg's own stream was read before the token stream: what is missing is there already, or it is
// lost with that stream.
void LegDriver::hold_end(RequestId id, LegNumber number, Leg& leg,
                         const protocol::TokensFrame& tokens) {
  leg.early_end = tokens;
  loop_.call_at(loop_.now() + kMissingTokensMax, [alive = std::weak_ptr(alive_), this, id, number] {
    if (alive.expired()) return;
    const Leg* late = find(id, number);
    if (late != nullptr && late->early_end)
      fault(id, number, {ErrorCode::kUnavailable, "tokens in front of the output's end are lost"},
            true);
  });
}

bool LegDriver::on_frame(RequestId id, LegNumber number, Leg& leg, const protocol::Frame& frame) {
  const Time now = loop_.now();
  Running& running = jobs_.at(id);
  if (std::holds_alternative<protocol::Accepted>(frame)) {
    leg.accepted = true;
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
    if (finished && leg.shared && tokens->index > running.emitted.size()) {
      hold_end(id, number, leg, *tokens);
      return false;
    }
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
  } else if (const auto* failed = std::get_if<protocol::Fault>(&frame)) {
    fault(id, number, {failed->code, failed->message}, failed->code == ErrorCode::kInternal);
  }
  return true;
}

void LegDriver::on_stream_end(RequestId id, LegNumber number, const Status& status) {
  Leg* leg = find(id, number);
  if (leg == nullptr || (status && leg->early_end)) return;
  if (!leg->concluded) {
    fault(id, number,
          status ? Error{ErrorCode::kUnavailable, "the instance ended the stream without a result"}
                 : status.error(),
          true);
  }
  if (const auto running = jobs_.find(id); running != jobs_.end())
    running->second.legs.erase(number);
  pump();
}

void LegDriver::fault(RequestId id, LegNumber number, Error error, bool worker_fault) {
  Leg* leg = find(id, number);
  if (leg == nullptr || leg->concluded) return;
  leg->concluded = true;
  counters_.faults.add();
  log::warn("request {} leg {} on instance {}: {}", to_string(id), number, leg->worker.value(),
            error.message);
  dispatcher_.on_fault(id, number, error, worker_fault, loop_.now());
  pump();
}

}  // namespace pd::gateway
