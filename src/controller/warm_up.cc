#include "controller/warm_up.h"

#include <fmt/format.h>

#include <utility>

namespace pd::controller {
namespace {

// Enough tokens to fill a block and more, so that prefill, transfer, scatter and a few decode steps
// all run; any id below the smallest vocabulary will do.
constexpr std::size_t kPromptTokens = 20;
constexpr std::int64_t kOutputTokens = 4;
constexpr std::uint32_t kDeadlineMs = 50'000;

}  // namespace

WarmUpRun::WarmUpRun(net::EventLoop& loop, net::HttpClient& http, WarmUpPlan plan,
                     std::function<void(Status)> done)
    : loop_(loop), http_(http), plan_(std::move(plan)), done_(std::move(done)) {
  sampling_.temperature = 0.0F;
  sampling_.max_tokens = Tokens(kOutputTokens);
  sampling_.ignore_eos = true;
}

WarmUpRun::~WarmUpRun() {
  for (const Leg& leg : legs_) {
    if (leg.call != 0) http_.cancel(leg.call);
  }
}

void WarmUpRun::start() {
  protocol::PrefillRequest message;
  message.id = {plan_.request, 1};
  message.layout_hash = plan_.layout_hash;
  message.deadline_ms = kDeadlineMs;
  message.warm_up = true;
  for (std::size_t i = 0; i < kPromptTokens; ++i)
    message.prompt.push_back(static_cast<TokenId>(i + 1));
  message.sampling = sampling_;
  open(1, plan_.prefill, "/pd/v1/prefill", protocol::encode(message));
}

void WarmUpRun::start_decode(const std::vector<TokenId>& emitted) {
  protocol::DecodeRequest message;
  message.id = {plan_.request, 2};
  message.layout_hash = plan_.layout_hash;
  message.deadline_ms = kDeadlineMs;
  message.prompt_tokens = kPromptTokens;
  message.prompt_last = static_cast<TokenId>(kPromptTokens);
  message.emitted = emitted;
  message.sampling = sampling_;
  message.descriptor = descriptor_;
  open(2, plan_.decode, "/pd/v1/decode", protocol::encode(message));
}

void WarmUpRun::open(std::uint32_t attempt, const net::HttpAddress& address, const char* target,
                     std::string body) {
  net::HttpCall call;
  call.address = address;
  call.target = target;
  call.headers = {{"authorization", "Bearer " + plan_.secret}};
  call.body = std::move(body);
  net::HttpCallHandlers handlers;
  handlers.on_head = [this, target](int status, const std::vector<net::Header>&) {
    if (status != 200)
      finish(error(ErrorCode::kUnavailable, fmt::format("{} answered HTTP {}", target, status)));
  };
  handlers.on_data = [this, attempt](std::string_view bytes) { on_bytes(attempt, bytes); };
  handlers.on_end = [this, attempt, target](const Status& status) {
    Leg& leg = legs_[attempt - 1];
    leg.call = 0;
    if (leg.concluded) return;
    finish(error(ErrorCode::kUnavailable,
                 status ? fmt::format("{} ended without a result", target)
                        : fmt::format("{}: {}", target, status.error().message)));
  };
  legs_[attempt - 1].call = http_.call(std::move(call), std::move(handlers));
}

void WarmUpRun::on_bytes(std::uint32_t attempt, std::string_view bytes) {
  const auto self = shared_from_this();  // finish() may drop the owner's reference
  protocol::FrameReader& reader = legs_[attempt - 1].reader;
  reader.feed(bytes);
  while (done_) {
    const auto frame = reader.next();
    if (!frame) return finish(std::unexpected(frame.error()));
    if (!*frame) return;
    on_frame(attempt, **frame);
  }
}

void WarmUpRun::on_frame(std::uint32_t attempt, const protocol::Frame& frame) {
  Leg& leg = legs_[attempt - 1];
  if (const auto* prefilled = std::get_if<protocol::Prefilled>(&frame)) {
    descriptor_ = prefilled->descriptor;
  } else if (const auto* tokens = std::get_if<protocol::TokensFrame>(&frame)) {
    if (attempt == 1) return start_decode(tokens->ids);
    if (tokens->finish == protocol::FinishReason::kNone) return;
    leg.concluded = true;
    finish({});
  } else if (const auto* released = std::get_if<protocol::Released>(&frame)) {
    leg.concluded = true;
    if (released->why != protocol::Released::Why::kPulled)
      finish(error(ErrorCode::kUnavailable, "the KV was not pulled"));
  } else if (std::holds_alternative<protocol::Rejected>(frame)) {
    finish(error(ErrorCode::kNoCapacity, "the instance is busy"));
  } else if (std::holds_alternative<protocol::Evicted>(frame)) {
    finish(error(ErrorCode::kNoCapacity, "the decode instance has no blocks"));
  } else if (const auto* fault = std::get_if<protocol::Fault>(&frame)) {
    finish(error(fault->code, fault->message));
  }
}

void WarmUpRun::finish(Status status) {
  if (!done_) return;
  // Posted: the caller of a callback of ours is an HTTP call that this object owns.
  loop_.post([done = std::exchange(done_, nullptr), status = std::move(status)] { done(status); });
}

}  // namespace pd::controller
