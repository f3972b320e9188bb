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
    : loop_(loop),
      plan_(std::move(plan)),
      done_(std::move(done)),
      prefill_(http, plan_.prefill, plan_.secret, observe(1, "the prefill instance")),
      decode_(http, plan_.decode, plan_.secret, observe(2, "the decode instance")) {
  sampling_.temperature = 0.0F;
  sampling_.max_tokens = Tokens(kOutputTokens);
  sampling_.ignore_eos = true;
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
  prefill_.start(message);
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
  decode_.start(message);
}

legs::LegChannelObserver WarmUpRun::observe(std::uint32_t attempt, const char* role) {
  return {.on_frame =
              [this, attempt](const protocol::LegFrame& frame) {
                if (done_) on_frame(attempt, frame.frame);
              },
          .on_read = [] {},
          .on_lost =
              [this, attempt, role](const Error& lost) {
                if (concluded_[attempt - 1]) return;
                finish(error(lost.code, fmt::format("{}: {}", role, lost.message)));
              }};
}

void WarmUpRun::on_frame(std::uint32_t attempt, const protocol::Frame& frame) {
  if (const auto* prefilled = std::get_if<protocol::Prefilled>(&frame)) {
    descriptor_ = prefilled->descriptor;
  } else if (const auto* tokens = std::get_if<protocol::TokensFrame>(&frame)) {
    if (attempt == 1) return start_decode(tokens->ids);
    if (tokens->finish == protocol::FinishReason::kNone) return;
    concluded_[attempt - 1] = true;
    finish({});
  } else if (const auto* released = std::get_if<protocol::Released>(&frame)) {
    concluded_[attempt - 1] = true;
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
  // Posted: the caller of a callback of ours is a channel that this object owns.
  loop_.post([done = std::exchange(done_, nullptr), status = std::move(status)] { done(status); });
}

}  // namespace pd::controller
