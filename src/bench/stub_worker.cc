#include "bench/stub_worker.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "legs/gathered_tokens.h"

namespace pd::bench {

using protocol::AttemptId;
using protocol::Released;

namespace {

// Of a D, and of a P whose prompts wait to be pulled: when a place frees is not known here. Soon.
constexpr Duration kSoon = std::chrono::milliseconds(1);
// As large as a descriptor of a real P over shared memory.
constexpr std::size_t kDescriptorBytes = 256;

// Opaque to the gateway: the key, padded.
std::string descriptor_of(std::uint64_t key) {
  std::string out = to_hex(key);
  out.resize(kDescriptorBytes, '.');
  return out;
}

protocol::Rejected busy_for(Duration hint) {
  return {protocol::RejectReason::kBusy,
          static_cast<std::uint32_t>(
              std::chrono::duration_cast<std::chrono::microseconds>(hint).count())};
}

std::optional<std::uint64_t> key_of(const std::string& descriptor) {
  return from_hex(std::string_view(descriptor).substr(0, 16));
}

}  // namespace

Result<std::unique_ptr<StubWorker>> StubWorker::create(net::EventLoop& loop, StubHandoffs& handoffs,
                                                       const StubOptions& options) {
  std::unique_ptr<StubWorker> worker(new StubWorker(loop, handoffs, options));
  auto server = net::HttpServer::create(
      loop,
      {.host = options.host,
       .port = options.port,
       .limits = {.write_buffer_max = legs::kChannelUnsentMax}},
      [raw = worker.get()](net::HttpRequest request, net::HttpResponse response) {
        raw->handle(std::move(request), std::move(response));
      });
  if (!server) return std::unexpected(server.error());
  worker->server_ = std::move(*server);
  return worker;
}

StubWorker::StubWorker(net::EventLoop& loop, StubHandoffs& handoffs, const StubOptions& options)
    : loop_(loop),
      handoffs_(handoffs),
      options_(options),
      answers_(loop, options.pace),
      legs_({[this](protocol::PrefillRequest request, legs::LegReply reply) {
               begin_prefill(std::move(request), std::move(reply));
             },
             [this](protocol::DecodeRequest request, legs::LegReply reply) {
               begin_decode(std::move(request), std::move(reply));
             }}) {}

StubWorker::~StubWorker() {
  *alive_ = false;
  for (const auto& [id, prefill] : prefills_) handoffs_.drop(prefill.key);
}

void StubWorker::handle(net::HttpRequest request, net::HttpResponse response) {
  const std::string_view path = request.path();
  if (request.method == "POST") {
    if (path == "/pd/v1/renew") return handle_renew(request, response);
    if (path == "/v1/chat/completions")
      return handle_generation(NumberedTokens::Kind::kChat, request, std::move(response));
    if (path == "/v1/completions")
      return handle_generation(NumberedTokens::Kind::kCompletion, request, std::move(response));
  }
  if (path == "/pd/v1/legs") return legs_.take(request, std::move(response));
  if (path == "/v1/models") {
    return response.send(
        200, "application/json",
        R"({"object":"list","data":[{"id":"stub","object":"model","created":0,"owned_by":"stub"}]})");
  }
  if (path == "/metrics") {
    return response.send(
        200, "text/plain",
        fmt::format("stub_prompts_taken_total {}\nstub_prompts_rejected_total {}\n", taken_,
                    rejected_));
  }
  if (path == "/health") return response.send(200, "application/json", R"({"status":"ok"})");
  response.send(404, "application/json", R"({"error":{"message":"a stub has no such path"}})");
}

Duration StubWorker::prefill_time(std::size_t prompt_tokens) const {
  return options_.prefill + static_cast<std::int64_t>(prompt_tokens) * options_.prefill_per_token;
}

void StubWorker::after(Duration time, std::function<void()> work) {
  if (time == Duration{0}) return work();
  loop_.call_at(loop_.now() + time, [alive = alive_, work = std::move(work)] {
    if (*alive) work();
  });
}

// ---- as P ----

void StubWorker::begin_prefill(protocol::PrefillRequest request, legs::LegReply reply) {
  if (static_cast<int>(prefills_.size()) >= options_.slots || prefills_.contains(request.id)) {
    ++rejected_;
    prefill_turns_.on_rejected(reply.peer(), loop_.now());
    return reply.finish(busy_for(time_until_a_slot()));
  }
  ++taken_;
  prefill_turns_.on_accepted(reply.peer());
  reply.send(protocol::Accepted{});
  reply.on_close([this, alive = alive_, id = request.id] {
    if (*alive) release(id, Released::Why::kCancelled);
  });
  const Duration time = prefill_time(request.prompt.size() + request.emitted.size());
  prefills_.emplace(request.id, Prefill{std::move(reply), 0, loop_.now() + time});
  after(time, [this, request = std::move(request)] { hand_out(request); });
}

Duration StubWorker::time_until_a_slot() const {
  const auto first = std::ranges::min_element(
      prefills_, {}, [](const auto& entry) { return entry.second.computed; });
  if (first == prefills_.end()) return kSoon;
  return std::max(first->second.computed - loop_.now(), kSoon);
}

void StubWorker::hand_out(const protocol::PrefillRequest& request) {
  const auto it = prefills_.find(request.id);
  if (it == prefills_.end()) return;  // cancelled meanwhile
  Prefill& held = it->second;
  const auto index = static_cast<std::uint32_t>(request.emitted.size());
  const bool last = index + 1 >= count_of(request.sampling.max_tokens);
  protocol::Prefilled prefilled;
  prefilled.compute_us = static_cast<std::uint32_t>(
      prefill_time(request.prompt.size() + request.emitted.size()).count() / 1000);
  if (!last) {
    held.key = handoffs_.hold([this, alive = alive_, id = request.id] {
      if (*alive) release(id, Released::Why::kPulled);
    });
    prefilled.descriptor = descriptor_of(held.key);
  }
  held.reply.send(prefilled);
  held.reply.send_encoded(last ? NumberedTokens::last_frame(index)
                               : answers_.tokens().frame(index));
  if (last) release(request.id, Released::Why::kFinished);
}

void StubWorker::release(const AttemptId& id, Released::Why why) {
  auto node = prefills_.extract(id);
  if (node.empty()) return;
  handoffs_.drop(node.mapped().key);
  node.mapped().reply.finish(Released{why});
  for (const auto& peer : prefill_turns_.on_free(loop_.now())) peer.say(protocol::Vacant{});
}

// ---- as D ----

void StubWorker::begin_decode(protocol::DecodeRequest request, legs::LegReply reply) {
  const auto key = key_of(request.descriptor);
  const AttemptId id = request.id;
  if (static_cast<int>(decodes_.size()) >= options_.places || decodes_.contains(id)) {
    decode_turns_.on_rejected(reply.peer(), loop_.now());
    return reply.finish(busy_for(kSoon));
  }
  if (!key || !handoffs_.pull(*key))
    return reply.finish(protocol::Fault{ErrorCode::kUnavailable, "no stub holds this descriptor"});
  reply.send(protocol::Accepted{});
  reply.send(protocol::Joined{0, 0, 1});
  decode_turns_.on_accepted(reply.peer());
  decodes_.insert(id);
  reply.on_close([this, alive = alive_, id] {
    if (*alive) end_decode(id);
  });
  const auto held = std::make_shared<legs::LegReply>(std::move(reply));
  const auto first = static_cast<std::uint32_t>(request.emitted.size());
  const std::uint32_t count = count_of(request.sampling.max_tokens);
  const auto emit =
      request.streamed ? emit_each(held, first, count) : emit_gathered(held, first, count);
  answers_.stepper().add(std::nullopt, [this, id, held, emit](int burst) {
    if (!held->open()) return false;
    if (emit(burst)) return true;
    held->end();
    end_decode(id);
    return false;
  });
}

void StubWorker::end_decode(const AttemptId& id) {
  decodes_.erase(id);
  for (const auto& peer : decode_turns_.on_free(loop_.now())) peer.say(protocol::Vacant{});
}

Stepper::Emit StubWorker::emit_each(const std::shared_ptr<legs::LegReply>& reply,
                                    std::uint32_t next, std::uint32_t count) {
  return [this, reply, next, count](int burst) mutable {
    for (; burst > 0 && next + 1 < count; --burst)
      reply->send_encoded(answers_.tokens().frame(next++));
    if (burst == 0) return true;
    reply->send_encoded(NumberedTokens::last_frame(next));
    return false;
  };
}

Stepper::Emit StubWorker::emit_gathered(const std::shared_ptr<legs::LegReply>& reply,
                                        std::uint32_t next, std::uint32_t count) {
  return [this, reply, next, count, gathered = legs::GatheredTokens()](int burst) mutable {
    for (; burst > 0; --burst) {
      protocol::TokensFrame token = NumberedTokens::token(next++);
      if (next >= count) token.finish = protocol::FinishReason::kLength;
      if (const auto frame = gathered.add(std::move(token), loop_.now())) reply->send(*frame);
      if (next >= count) return false;
    }
    return true;
  };
}

void StubWorker::handle_renew(const net::HttpRequest& request, net::HttpResponse& response) {
  auto message = protocol::decode_lease_list(request.body);
  if (!message) return response.send(400, "text/plain", message.error().message);
  std::erase_if(message->held, [this](const AttemptId& id) {
    return prefills_.contains(id) || decodes_.contains(id);
  });
  response.send(200, "application/octet-stream",
                protocol::encode(protocol::LeaseAnswer{std::move(message->held), std::nullopt}));
}

// ---- as a server of its own ----

void StubWorker::handle_generation(NumberedTokens::Kind kind, const net::HttpRequest& request,
                                   net::HttpResponse response) {
  const auto api = kind == NumberedTokens::Kind::kChat
                       ? protocol::parse_chat_request(request.body, {})
                       : protocol::parse_completion_request(request.body, {});
  if (!api) return response.send(api.error().status, "application/json", to_json(api.error()));
  std::size_t prompt_tokens = 0;
  if (options_.prefill_per_token != Duration{0}) {
    const std::string* text =
        api->prompts.size() == 1 ? std::get_if<std::string>(&api->prompts.front()) : nullptr;
    if (!text || !options_.count_tokens)
      return response.send(
          400, "application/json",
          R"({"error":{"message":"with a time per token a stub takes one text"}})");
    prompt_tokens = options_.count_tokens(*text);
  }
  const WantedAnswer wanted{kind, api->stream, count_of(api->sampling.max_tokens)};
  queue_.push_back({response, prefill_time(prompt_tokens),
                    [this, wanted, response] { answers_.answer(wanted, response); }});
  compute_queued();
}

void StubWorker::compute_queued() {
  while (!queue_.empty() && computing_ < options_.slots) {
    Queued next = std::move(queue_.front());
    queue_.pop_front();
    if (!next.response.open()) continue;  // its client has left
    ++computing_;
    ++taken_;
    after(next.prefill, [this, answer = std::move(next.answer)] {
      --computing_;
      answer();
      compute_queued();
    });
  }
}

}  // namespace pd::bench
