#include "worker/decode_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "transfer/kv_range.h"
#include "worker/logprobs.h"

namespace pd::worker {

using protocol::Fault;
using protocol::FinishReason;

Result<std::unique_ptr<DecodeService>> DecodeService::create(net::EventLoop& loop,
                                                             TransferThread& transfer,
                                                             const LoadedModel& loaded,
                                                             const DecodeServiceOptions& options,
                                                             Metrics& metrics) {
  auto pool = engine::KvPool::create(loaded.layout, options.blocks);
  if (!pool) return std::unexpected(pool.error());
  std::unique_ptr<DecodeService> service(
      new DecodeService(loop, transfer, loaded, std::move(*pool), options, metrics));
  service->thread_ = std::jthread([raw = service.get()] { raw->engine_loop(); });
  return service;
}

DecodeService::DecodeService(net::EventLoop& loop, TransferThread& transfer,
                             const LoadedModel& loaded, engine::KvPool pool,
                             const DecodeServiceOptions& options, Metrics& metrics)
    : loop_(loop),
      transfer_(transfer),
      loaded_(loaded),
      options_(options),
      pool_(std::move(pool)),
      blocks_(options.blocks, Tokens(loaded.layout.block_tokens), {}),
      leases_(loop, options.lease,
              metrics.counter("pdserve_decode_leases_expired_total",
                              "requests whose holder did not renew"),
              [this](const policy::Holder& id) {
                give_up(id, Fault{ErrorCode::kCancelled, "the lease was not renewed"});
              }),
      rejected_(metrics.counter("pdserve_decode_rejected_total",
                                "requests rejected because no place or block was free")),
      evicted_(metrics.counter("pdserve_decode_evicted_total",
                               "requests sent away because no block was left")),
      integrity_failures_(metrics.counter("pdserve_kv_integrity_failures_total",
                                          "KV that failed its digest, key or epoch")),
      runtime_(loaded, options.threads, options.batch),
      engine_(runtime_.transformer, pool_, blocks_, runtime_.pool,
              {.batch_max = static_cast<std::size_t>(options.batch), .eos = loaded.model->eos}),
      inbox_(inbox_size(options.batch)),
      alive_(std::make_shared<std::atomic<bool>>(true)) {}

DecodeService::~DecodeService() {
  alive_->store(false);
  inbox_.close();
  if (thread_.joinable()) thread_.join();
}

BlockCount DecodeService::blocks_used() {
  std::lock_guard lock(blocks_mutex_);
  return blocks_.used();
}

protocol::Room DecodeService::room() {
  protocol::Room out;
  out.requests = static_cast<std::uint32_t>(requests());
  out.places = static_cast<std::uint32_t>(std::max(0, options_.batch - requests()));
  if (const auto hold = turnover_.hold(loop_.now()))
    out.hold_us =
        static_cast<std::uint32_t>(std::clamp<std::int64_t>(hold->count() / 1000, 1, UINT32_MAX));
  std::lock_guard lock(blocks_mutex_);
  const std::int64_t spare = blocks_.total().value() - blocks_.need().value();
  out.blocks_free = static_cast<std::uint32_t>(blocks_.free().value());
  out.blocks_spare =
      static_cast<std::uint32_t>(std::clamp<std::int64_t>(spare, 0, blocks_.free().value()));
  out.block_tokens = static_cast<std::uint32_t>(blocks_.block_tokens().value());
  out.growth_tokens = static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(blocks_.growth().value(), 0, loaded_.context_max.value()));
  return out;
}

// When the first request is expected to end.
Duration DecodeService::hint() {
  std::lock_guard lock(blocks_mutex_);
  return std::clamp<Duration>(Duration(step_ns_.load() * blocks_.soonest_end().value()),
                              std::chrono::milliseconds(1), std::chrono::seconds(2));
}

// ---- loop thread ----

std::optional<Error> DecodeService::refusal(const protocol::DecodeRequest& request,
                                            const protocol::KvDescriptor& descriptor) const {
  const model::ModelConfig& config = loaded_.model->config();
  const auto outside = [&](TokenId token) { return token < 0 || token >= config.vocab; };
  if (request.layout_hash != loaded_.layout.hash() ||
      descriptor.layout_hash != loaded_.layout.hash() ||
      descriptor.weights_digest != loaded_.layout.weights_digest) {
    return Error{ErrorCode::kIncompatible,
                 "the KV layout or the weights differ from this instance's"};
  }
  if (std::ranges::any_of(request.prompt, outside) ||
      std::ranges::any_of(request.emitted, outside) || outside(request.prompt_last)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("a token id is outside the vocabulary of {}", config.vocab)};
  }
  const auto kv_length =
      static_cast<std::int64_t>(request.prompt_tokens + request.emitted.size() - 1);
  if (descriptor.tokens.value() != kv_length ||
      descriptor.size != transfer::range_bytes(loaded_.layout, descriptor.tokens)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("the descriptor holds KV of {} tokens, the request has {}",
                             descriptor.tokens.value(), kv_length)};
  }
  if (request.deadline_ms == 0)
    return Error{ErrorCode::kDeadlineExceeded, "the deadline had passed on arrival"};
  return std::nullopt;
}

void DecodeService::handle(protocol::DecodeRequest request, legs::LegReply leg) {
  const Time now = loop_.now();
  const policy::Holder id = holder_of(request.id);
  auto reply = std::make_shared<legs::LegReply>(std::move(leg));
  const auto refuse = [&](const Error& error) { reply->finish(Fault{error.code, error.message}); };
  const auto reject = [&](protocol::RejectReason reason, Duration wait) {
    rejected_.add();
    if (reason == protocol::RejectReason::kBusy) turns_.on_rejected(reply->peer(), now);
    reply->send(room());
    reply->finish(protocol::Rejected{reason, static_cast<std::uint32_t>(wait.count() / 1000)});
  };
  const auto descriptor = protocol::decode_kv_descriptor(request.descriptor);
  if (!descriptor) return refuse(descriptor.error());
  if (const auto error = refusal(request, *descriptor)) return refuse(*error);
  if (draining_) return reject(protocol::RejectReason::kDraining, std::chrono::seconds(1));
  if (held_.contains(id))
    return refuse({ErrorCode::kAlreadyExists, "this attempt is running already"});
  if (requests() >= options_.batch) return reject(protocol::RejectReason::kBusy, hint());
  policy::KvAdmission admission{};
  {
    std::lock_guard lock(blocks_mutex_);
    admission = blocks_.admit(
        id, {descriptor->tokens, Tokens(static_cast<std::int64_t>(request.emitted.size())),
             request.sampling.max_tokens, static_cast<int>(request.evictions)});
  }
  if (admission == policy::KvAdmission::kTooLarge) {
    return refuse({ErrorCode::kTooLarge,
                   fmt::format("its KV of {} tokens is more than [decode] kv_memory holds",
                               descriptor->tokens.value())});
  }
  if (admission != policy::KvAdmission::kAccepted)
    return reject(protocol::RejectReason::kBusy, hint());

  turns_.on_accepted(reply->peer());
  turnover_.on_taken(now);
  Held& held = held_[id];
  held.reply = std::move(reply);
  held.accepted = now;
  held.deadline = now + std::chrono::milliseconds(request.deadline_ms);
  held.request = std::move(request);
  leases_.grant(id);
  held.reply->send(room());
  held.reply->send(protocol::Accepted{});
  held.reply->on_close([this, id, alive = alive_] {
    if (*alive) give_up(id, std::nullopt);
  });
  start_pull(id, *descriptor);
}

void DecodeService::start_pull(const policy::Holder& id, const protocol::KvDescriptor& descriptor) {
  Held& held = held_.at(id);
  std::vector<BlockIndex> table;
  {
    std::lock_guard lock(blocks_mutex_);
    const auto blocks = blocks_.table(id);
    table.assign(blocks.begin(), blocks.end());
  }
  transfer::HandoffPlan plan;
  plan.descriptor = descriptor;
  plan.id = {id.request, id.attempt};
  plan.pool = {pool_.layout(), pool_.planes()};
  plan.table = std::move(table);
  plan.block_fixed = options_.block_fixed;
  const auto done = [this, id, alive = alive_](Result<transfer::HandoffStats> result) {
    loop_.post([this, id, alive, result = std::move(result)] {
      if (*alive) on_pulled(id, result);
    });
  };
  held.receiver = std::make_shared<transfer::HandoffReceiver>(std::move(plan), done);
  const bool posted = transfer_.post(
      [receiver = held.receiver](transfer::KvTransport& transport) { receiver->start(transport); });
  if (!posted) on_pulled(id, error(ErrorCode::kInternal, "the transfer thread takes no more work"));
}

void DecodeService::on_pulled(const policy::Holder& id,
                              const Result<transfer::HandoffStats>& result) {
  const auto it = held_.find(id);
  if (it == held_.end()) return;
  Held& held = it->second;
  if (result) {
    integrity_failures_.add(result->integrity_failures);
  } else if (result.error().code == ErrorCode::kCorrupt) {
    integrity_failures_.add();
  }
  if (held.given_up) return release(id, false, false);
  if (!result) {
    held.reply->finish(Fault{result.error().code, result.error().message});
    held.reply.reset();
    return release(id, false, false);
  }
  const Duration took = loop_.now() - held.accepted;
  held.reply->send(protocol::Joined{static_cast<std::uint32_t>(took.count() / 1000),
                                    static_cast<std::uint64_t>(result->bytes.value()),
                                    result->pieces});
  join(id, held);
}

void DecodeService::join(const policy::Holder& id, Held& held) {
  held.phase = Phase::kDecoding;
  held.receiver.reset();
  Admit admit;
  admit.job.id = id;
  admit.job.kv_length = Tokens(
      static_cast<std::int64_t>(held.request.prompt_tokens + held.request.emitted.size() - 1));
  admit.job.emitted = std::move(held.request.emitted);
  admit.job.prompt = std::move(held.request.prompt);
  admit.job.sampling = std::move(held.request.sampling);
  admit.job.deadline = held.deadline;
  admit.job.evictions = static_cast<int>(held.request.evictions);
  admit.prompt_last = held.request.prompt_last;
  admit.streamed = held.request.streamed;
  CHECK(inbox_.try_push(Command(std::move(admit))));
}

void DecodeService::on_progress(const std::vector<Progress>& step) {
  for (const Progress& progress : step) {
    const auto it = held_.find(progress.id);
    if (it == held_.end()) continue;
    const std::shared_ptr<legs::LegReply> reply = it->second.reply;
    if (progress.over) {  // first: the room that is stated is what is left without it
      if (progress.evicted) evicted_.add();
      release(progress.id, progress.finished, progress.evicted);
      if (reply) reply->send(room());
    }
    if (!reply) continue;
    for (const protocol::Frame& frame : progress.frames) reply->send(frame);
    if (progress.over) reply->end();
  }
}

void DecodeService::give_up(policy::Holder id, std::optional<protocol::Frame> last) {
  const auto it = held_.find(id);
  if (it == held_.end() || it->second.given_up) return;
  Held& held = it->second;
  held.given_up = true;
  if (last) held.reply->finish(*last);
  held.reply.reset();
  // Whoever writes the blocks answers when it has let go; then they are released.
  if (held.phase == Phase::kPulling) {
    transfer_.post([receiver = held.receiver](transfer::KvTransport&) { receiver->cancel(); });
  } else {
    CHECK(inbox_.try_push(Command(Remove{id})));
  }
}

void DecodeService::release(policy::Holder id, bool finished, bool blocks_gone) {
  if (!blocks_gone) {
    std::lock_guard lock(blocks_mutex_);
    blocks_.release(id, finished);
  }
  leases_.drop(id);
  const auto it = held_.find(id);
  turnover_.on_freed(it->second.accepted, finished, loop_.now());
  held_.erase(it);
  const protocol::Room left = room();
  for (const legs::LegPeer& peer : turns_.on_free(loop_.now())) {
    peer.say(left);
    peer.say(protocol::Vacant{});
  }
}

// ---- engine thread ----

void DecodeService::engine_loop() {
  while (true) {
    std::optional<Command> command = engine_.idle() ? inbox_.pop() : inbox_.try_pop();
    if (!command && inbox_.closed()) return;
    std::vector<Progress> step;
    for (; command; command = inbox_.try_pop()) take(std::move(*command), step);
    if (!engine_.idle()) {
      const Time start = SteadyTime::now();
      std::vector<engine::DecodeEvent> events;
      {
        std::lock_guard lock(blocks_mutex_);
        events = engine_.begin_step(start);
      }
      for (engine::DecodeEvent& event : engine_.run_step()) events.push_back(std::move(event));
      const Time end = SteadyTime::now();
      for (const engine::DecodeEvent& event : events) {
        Progress progress = advance(event, end);
        if (progress.over || !progress.frames.empty()) step.push_back(std::move(progress));
      }
      steps_.fetch_add(1, std::memory_order_relaxed);
      step_ns_.store((end - start).count(), std::memory_order_relaxed);
    }
    if (!step.empty()) report(std::move(step));
  }
}

void DecodeService::take(Command command, std::vector<Progress>& out) {
  if (auto* admit = std::get_if<Admit>(&command)) {
    engine::DecodeJob& job = admit->job;
    Output output{engine::TextStage(loaded_.model->tokenizer, job.sampling, loaded_.model->eos,
                                    admit->prompt_last),
                  job.sampling.logprobs.has_value(),
                  {}};
    if (!admit->streamed) output.gathered.emplace();
    output.text.replay(job.emitted);
    const policy::Holder id = job.id;
    Status admitted;
    {
      std::lock_guard lock(blocks_mutex_);
      admitted = engine_.admit(std::move(job));
    }
    if (admitted) {
      outputs_.emplace(id, std::move(output));
    } else {
      out.push_back(
          {id, {Fault{admitted.error().code, admitted.error().message}}, true, false, false});
    }
    return;
  }
  const policy::Holder id = std::get<Remove>(command).id;
  if (!engine_.remove(id)) return;  // it has ended: that is on its way
  outputs_.erase(id);
  out.push_back({id, {}, true, false, false});
}

DecodeService::Progress DecodeService::advance(const engine::DecodeEvent& event, Time now) {
  using Kind = engine::DecodeEvent::Kind;
  Progress out;
  out.id = event.id;
  Output& output = outputs_.at(event.id);
  if (event.kind != Kind::kToken) {
    if (output.gathered) {
      if (auto rest = output.gathered->take()) out.frames.emplace_back(std::move(*rest));
    }
    outputs_.erase(event.id);
    out.over = true;
    out.evicted = event.kind == Kind::kEvicted;
    if (event.kind == Kind::kEvicted) out.frames.emplace_back(protocol::Evicted{});
    if (event.kind == Kind::kExpired)
      out.frames.emplace_back(
          Fault{ErrorCode::kDeadlineExceeded, "the deadline passed during decode"});
    if (event.kind == Kind::kFailed)
      out.frames.emplace_back(Fault{event.error.code, event.error.message});
    return out;
  }
  engine::TextStep step = output.text.append(event.token.id);
  protocol::TokensFrame frame;
  frame.index = event.index;
  frame.ids = {event.token.id};
  frame.text = std::move(step.text);
  frame.finish = step.finish;
  if (output.logprobs) frame.logprobs = {to_logprobs(event.token)};
  std::optional<protocol::TokensFrame> ready =
      output.gathered ? output.gathered->add(std::move(frame), now) : std::move(frame);
  if (ready) out.frames.emplace_back(std::move(*ready));
  if (step.finish != FinishReason::kNone) {
    engine_.remove(event.id);
    outputs_.erase(event.id);
    out.over = true;
    out.finished = true;
  }
  return out;
}

void DecodeService::report(std::vector<Progress> step) {
  auto shared = std::make_shared<std::vector<Progress>>(std::move(step));
  loop_.post([this, shared, alive = alive_] {
    if (*alive) on_progress(*shared);
  });
}

}  // namespace pd::worker
