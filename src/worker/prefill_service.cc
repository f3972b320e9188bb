#include "worker/prefill_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "worker/logprobs.h"

namespace pd::worker {

using protocol::Fault;
using protocol::FinishReason;
using protocol::Released;

namespace {

constexpr Tokens kWarmUpTokensMax(64);
constexpr Duration kWarmUpHint = std::chrono::milliseconds(20);

std::uint32_t microseconds(Duration d) {
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(d.count() / 1000, 0, UINT32_MAX));
}

}  // namespace

Bytes PrefillService::warm_up_bytes(const protocol::KvLayout& layout) {
  return transfer::range_bytes(layout, kWarmUpTokensMax);
}

Result<std::unique_ptr<PrefillService>> PrefillService::create(
    net::EventLoop& loop, TransferThread& transfer, BootId self, const LoadedModel& loaded,
    const transfer::ExposedRegion& region, const PrefillServiceOptions& options, Metrics& metrics) {
  std::optional<engine::PrefixCache> cache;
  if (options.prefix_cache.value() > 0) {
    auto made = engine::PrefixCache::create(loaded.layout, Tokens(loaded.layout.block_tokens),
                                            options.prefix_cache);
    if (!made) return std::unexpected(made.error());
    cache = std::move(*made);
  }
  std::unique_ptr<PrefillService> service(
      new PrefillService(loop, transfer, self, loaded, region, options, std::move(cache), metrics));
  service->thread_ = std::jthread([raw = service.get()] { raw->engine_loop(); });
  return service;
}

PrefillService::PrefillService(net::EventLoop& loop, TransferThread& transfer, BootId self,
                               const LoadedModel& loaded, const transfer::ExposedRegion& region,
                               const PrefillServiceOptions& options,
                               std::optional<engine::PrefixCache> cache, Metrics& metrics)
    : loop_(loop),
      transfer_(transfer),
      self_(self),
      loaded_(loaded),
      region_(region),
      options_(options),
      slots_(options.slots),
      leases_(loop, options.lease,
              metrics.counter("pdserve_prefill_leases_expired_total",
                              "held KV whose holder did not renew"),
              [this](const policy::Holder& id) { give_up(id, Released::Why::kLeaseEnded); }),
      buffer_(Bytes(static_cast<std::int64_t>(region.memory.size())) -
              warm_up_bytes(loaded.layout)),
      rng_(options.seed),
      rejected_(metrics.counter("pdserve_prefill_rejected_total",
                                "prompts rejected because no slot or memory was free")),
      cache_(std::move(cache)),
      runtime_(loaded, options.threads, options.chunk_tokens),
      engine_(runtime_.transformer, loaded.layout, cache_ ? &*cache_ : nullptr,
              {.batcher = {.budget = Tokens(options.chunk_tokens)}, .eos = loaded.model->eos}),
      inbox_(inbox_size(options.slots.slots)),
      alive_(std::make_shared<std::atomic<bool>>(true)) {}

PrefillService::~PrefillService() {
  alive_->store(false);
  inbox_.close();
  if (thread_.joinable()) thread_.join();
}

// ---- loop thread ----

std::span<std::byte> PrefillService::range_of(const Held& held) const {
  return region_.memory.subspan(held.offset, static_cast<std::size_t>(held.size.value()));
}

std::optional<Error> PrefillService::refusal(const protocol::PrefillRequest& request, Tokens tokens,
                                             Bytes size) const {
  const model::ModelConfig& config = loaded_.model->config();
  const auto outside = [&](TokenId token) { return token < 0 || token >= config.vocab; };
  if (request.layout_hash != loaded_.layout.hash()) {
    return Error{ErrorCode::kIncompatible,
                 "the KV layout or the weights differ from this instance's"};
  }
  if (std::ranges::any_of(request.prompt, outside) ||
      std::ranges::any_of(request.emitted, outside)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("a token id is outside the vocabulary of {}", config.vocab)};
  }
  if (tokens > loaded_.context_max) {
    return Error{ErrorCode::kTooLarge, fmt::format("{} tokens, the context holds {}",
                                                   tokens.value(), loaded_.context_max.value())};
  }
  const Bytes room = request.warm_up ? warm_up_bytes(loaded_.layout) : buffer_.capacity();
  if (size > room) {
    return Error{ErrorCode::kTooLarge,
                 fmt::format("the prompt's KV needs {} bytes, [prefill] send_buffer has {}",
                             size.value(), room.value())};
  }
  if (request.deadline_ms == 0)
    return Error{ErrorCode::kDeadlineExceeded, "the deadline had passed on arrival"};
  return std::nullopt;
}

void PrefillService::handle(protocol::PrefillRequest request, legs::LegReply leg) {
  const Time now = loop_.now();
  const policy::Holder id = holder_of(request.id);
  auto reply = std::make_shared<legs::LegReply>(std::move(leg));
  const auto reject = [&](protocol::RejectReason reason, Duration hint) {
    rejected_.add();
    reply->finish(protocol::Rejected{reason, microseconds(hint)});
  };
  const Tokens tokens(static_cast<std::int64_t>(request.prompt.size() + request.emitted.size()));
  const Bytes size = transfer::range_bytes(loaded_.layout, tokens);
  if (const auto error = refusal(request, tokens, size))
    return reply->finish(Fault{error->code, error->message});
  if (draining_) return reject(protocol::RejectReason::kDraining, std::chrono::seconds(1));
  if (held_.contains(id))
    return reply->finish(Fault{ErrorCode::kAlreadyExists, "this attempt is running already"});
  const auto offset = take_place(id, request.warm_up, tokens, size);
  if (!offset) {
    if (!request.warm_up) turns_.on_rejected(reply->peer(), now);
    return reject(protocol::RejectReason::kBusy, offset.error().hint);
  }
  turns_.on_accepted(reply->peer());
  Held& held = held_[id];
  held.reply = std::move(reply);
  held.offset = *offset;
  held.size = size;
  held.tokens = tokens;
  held.accepted = now;
  held.epoch = Epoch(next_epoch_++);
  held.read_key = {rng_.next(), rng_.next()};
  begin(id, std::move(request), held);
}

std::expected<std::uint64_t, PrefillService::NoPlace> PrefillService::take_place(
    const policy::Holder& id, bool warm_up, Tokens tokens, Bytes size) {
  if (warm_up) {
    if (warm_up_) return std::unexpected(NoPlace{kWarmUpHint});
    warm_up_ = id;
    return static_cast<std::uint64_t>(buffer_.capacity().value());
  }
  const Time now = loop_.now();
  const policy::SlotAnswer answer = slots_.ask(id, tokens, now);
  if (answer.kind != policy::SlotAnswer::Kind::kAccepted)
    return std::unexpected(NoPlace{answer.hint});
  const auto offset = buffer_.reserve(size);
  if (offset) return *offset;
  slots_.release(id, false, now);
  return std::unexpected(NoPlace{slots_.hint(now)});
}

void PrefillService::begin(const policy::Holder& id, protocol::PrefillRequest request, Held& held) {
  leases_.grant(id);
  held.reply->send(protocol::Accepted{});
  held.reply->on_close([this, id, alive = alive_] {
    if (*alive) close(id);
  });
  Add add;
  add.range = range_of(held);
  add.epoch = held.epoch;
  add.read_key = held.read_key;
  add.job.id = id;
  add.job.prompt_length = Tokens(static_cast<std::int64_t>(request.prompt.size()));
  add.job.tokens = std::move(request.prompt);
  add.job.tokens.insert(add.job.tokens.end(), request.emitted.begin(), request.emitted.end());
  add.job.sampling = std::move(request.sampling);
  add.job.tenant_salt = request.tenant_salt;
  add.job.range = {transfer::kv_of(loaded_.layout, add.range), held.tokens};
  add.job.deadline = held.accepted + std::chrono::milliseconds(request.deadline_ms);
  // Room for an Add and a Cancel of every slot: a full queue is a broken count.
  CHECK(inbox_.try_push(Command(std::move(add))));
}

void PrefillService::on_outcome(PrefillOutcome outcome) {
  const policy::Holder id = outcome.event.id;
  const auto it = held_.find(id);
  if (it == held_.end()) return;
  Held& held = it->second;
  using Kind = engine::PrefillEvent::Kind;
  if (held.phase == Phase::kCancelling) return release(id, Released::Why::kCancelled);
  if (outcome.event.kind == Kind::kFinished) return hand_out(id, held, std::move(outcome));
  const bool expired = outcome.event.kind == Kind::kExpired;
  held.reply->finish(expired
                         ? Fault{ErrorCode::kDeadlineExceeded, "the deadline passed during prefill"}
                         : Fault{outcome.event.error.code, outcome.event.error.message});
  held.reply.reset();
  release(id, Released::Why::kCancelled);
}

void PrefillService::hand_out(const policy::Holder& id, Held& held, PrefillOutcome outcome) {
  const Time now = loop_.now();
  slots_.on_prefilled(id, now);
  const Time started = outcome.event.started.value_or(now);
  protocol::Prefilled prefilled;
  prefilled.cached_tokens = static_cast<std::uint32_t>(outcome.event.cached.value());
  prefilled.queue_us = microseconds(started - held.accepted);
  prefilled.compute_us = microseconds(now - started);
  for (const auto& token : outcome.event.prompt_logprobs)
    prefilled.prompt_logprobs.push_back(to_logprobs(token));
  const bool finished = outcome.finish != FinishReason::kNone;
  if (!finished) {
    protocol::KvDescriptor descriptor;
    descriptor.boot_id = self_;
    descriptor.address_blob = transfer_.address().blob;
    descriptor.region_key = region_.key;
    descriptor.offset = held.offset;
    descriptor.size = held.size;
    descriptor.layout_hash = loaded_.layout.hash();
    descriptor.weights_digest = loaded_.layout.weights_digest;
    descriptor.tokens = held.tokens;
    descriptor.epoch = held.epoch;
    descriptor.read_key = held.read_key;
    descriptor.lease = std::chrono::duration_cast<std::chrono::milliseconds>(options_.lease);
    prefilled.descriptor = protocol::encode(descriptor);
  }
  protocol::TokensFrame tokens;
  tokens.index = outcome.index;
  tokens.ids = {outcome.event.first.id};
  tokens.text = std::move(outcome.text);
  tokens.finish = outcome.finish;
  if (outcome.logprobs) tokens.logprobs = {to_logprobs(outcome.event.first)};
  held.phase = Phase::kHolding;
  held.reply->send(prefilled);
  held.reply->send(tokens);
  if (finished) release(id, Released::Why::kFinished);
}

// The gateway closed the leg: nobody wants this KV any more.
void PrefillService::close(policy::Holder id) { give_up(id, Released::Why::kCancelled); }

void PrefillService::give_up(policy::Holder id, Released::Why why) {
  const auto it = held_.find(id);
  if (it == held_.end()) return;
  if (it->second.phase == Phase::kHolding) return release(id, why);
  // The engine still writes the range: it goes back only when the engine has let go of it.
  if (it->second.phase == Phase::kCancelling) return;
  it->second.phase = Phase::kCancelling;
  if (it->second.reply) it->second.reply->finish(Released{why});
  it->second.reply.reset();
  CHECK(inbox_.try_push(Command(Cancel{id})));
}

void PrefillService::release(policy::Holder id, Released::Why why) {
  const auto it = held_.find(id);
  if (it == held_.end()) return;
  Held held = std::move(it->second);
  held_.erase(it);
  transfer::invalidate_range(range_of(held));  // the read key dies before the memory is used again
  leases_.drop(id);
  if (warm_up_ == id) {
    warm_up_.reset();
  } else {
    buffer_.release(held.offset);
    slots_.release(id, why == Released::Why::kPulled, loop_.now());
  }
  if (held.reply) held.reply->finish(Released{why});
  for (const legs::LegPeer& peer : turns_.on_free(loop_.now())) peer.say(protocol::Vacant{});
}

void PrefillService::on_notice(const protocol::HandoffMessage& notice) {
  // The notice names the decode leg's request and the epoch and key of the range: whoever knows the
  // key may free it.
  for (auto& [id, held] : held_) {
    if (held.epoch != notice.epoch || held.read_key != notice.read_key ||
        held.phase != Phase::kHolding)
      continue;
    const bool pulled = notice.outcome == protocol::HandoffOutcome::kDone;
    release(id, pulled ? Released::Why::kPulled : Released::Why::kHandoffFailed);
    return;
  }
}

// ---- engine thread ----

void PrefillService::engine_loop() {
  while (true) {
    // Sleeps only when there is nothing to compute; otherwise takes what has arrived and goes on.
    std::optional<Command> command = engine_.idle() ? inbox_.pop() : inbox_.try_pop();
    if (!command && inbox_.closed()) return;
    for (; command; command = inbox_.try_pop()) take(std::move(*command));
    if (engine_.idle()) continue;
    for (engine::PrefillEvent& event : engine_.step(SteadyTime::now()))
      report(conclude(std::move(event)));
    steps_.fetch_add(1, std::memory_order_relaxed);
  }
}

void PrefillService::take(Command command) {
  if (auto* add = std::get_if<Add>(&command)) {
    const policy::Holder id = add->job.id;
    engine::PrefillJob job = add->job;
    running_.emplace(id, std::move(*add));
    if (auto added = engine_.add(std::move(job)); !added) {
      engine::PrefillEvent event;
      event.kind = engine::PrefillEvent::Kind::kFailed;
      event.id = id;
      event.error = added.error();
      report(conclude(std::move(event)));
    }
    return;
  }
  const policy::Holder id = std::get<Cancel>(command).id;
  if (!engine_.cancel(id)) return;  // it has ended: its outcome is on its way
  engine::PrefillEvent event;
  event.kind = engine::PrefillEvent::Kind::kFailed;
  event.id = id;
  event.error = {ErrorCode::kCancelled, "cancelled"};
  report(conclude(std::move(event)));
}

// The text of the first token and, unless the request is over with it, the header that lets a D
// verify the range.
PrefillOutcome PrefillService::conclude(engine::PrefillEvent event) {
  const auto node = running_.extract(event.id);
  const Add& add = node.mapped();
  PrefillOutcome out;
  if (event.kind == engine::PrefillEvent::Kind::kFinished) {
    const auto prompt_length = static_cast<std::size_t>(add.job.prompt_length.value());
    const std::span<const TokenId> emitted = std::span(add.job.tokens).subspan(prompt_length);
    engine::TextStage text(loaded_.model->tokenizer, add.job.sampling, loaded_.model->eos,
                           add.job.tokens[prompt_length - 1]);
    text.replay(emitted);
    engine::TextStep step = text.append(event.first.id);
    out.text = std::move(step.text);
    out.finish = step.finish;
    out.index = static_cast<std::uint32_t>(emitted.size());
    out.logprobs = add.job.sampling.logprobs.has_value();
    if (out.finish == FinishReason::kNone) {
      transfer::write_range_header(loaded_.layout, add.range,
                                   {add.epoch, add.read_key, add.job.range.capacity});
    }
  }
  out.event = std::move(event);
  return out;
}

void PrefillService::report(PrefillOutcome outcome) {
  auto shared = std::make_shared<PrefillOutcome>(std::move(outcome));
  loop_.post([this, shared, alive = alive_] {
    if (*alive) on_outcome(std::move(*shared));
  });
}

}  // namespace pd::worker
