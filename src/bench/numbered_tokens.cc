#include "bench/numbered_tokens.h"

#include <fmt/format.h>

namespace pd::bench {
namespace {

using protocol::FinishReason;
using Kind = NumberedTokens::Kind;

// Every vocabulary has that many.
constexpr std::uint32_t kTokenIds = 256;

protocol::AnswerIdentity identity(Kind kind) { return {kind, "stub", "stub", 0}; }

std::string render_frame(std::uint32_t index, FinishReason finish) {
  protocol::TokensFrame frame = NumberedTokens::token(index);
  frame.finish = finish;
  std::string out;
  protocol::append_frame(out, frame);
  return out;
}

}  // namespace

std::string number_text(std::uint32_t index) {
  return index == 0 ? "0" : fmt::format(" {}", index);
}

NumberedTokens::NumberedTokens()
    : chat_(identity(Kind::kChat), false, false),
      completion_(identity(Kind::kCompletion), false, false) {}

protocol::TokensFrame NumberedTokens::token(std::uint32_t index) {
  protocol::TokensFrame frame;
  frame.index = index;
  frame.ids = {static_cast<TokenId>(index % kTokenIds)};
  frame.text = number_text(index);
  return frame;
}

std::string_view NumberedTokens::frame(std::uint32_t index) {
  while (frames_.size() <= index)
    frames_.push_back(
        render_frame(static_cast<std::uint32_t>(frames_.size()), FinishReason::kNone));
  return frames_[index];
}

std::string NumberedTokens::last_frame(std::uint32_t index) {
  return render_frame(index, FinishReason::kLength);
}

std::string NumberedTokens::opening(Kind kind) const { return renderer(kind).first(0); }

std::string_view NumberedTokens::event(Kind kind, std::uint32_t index) {
  std::vector<std::string>& events = kind == Kind::kChat ? chat_events_ : completion_events_;
  while (events.size() <= index) {
    const std::string text = number_text(static_cast<std::uint32_t>(events.size()));
    renderer(kind).append_chunk(events.emplace_back(), 0, text, "", FinishReason::kNone, {});
  }
  return events[index];
}

std::string NumberedTokens::closing(Kind kind) const {
  std::string out;
  renderer(kind).append_chunk(out, 0, "", "", FinishReason::kLength, {});
  return out.append(protocol::StreamRenderer::done());
}

std::string NumberedTokens::answer(Kind kind, std::uint32_t count) {
  std::string text;
  for (std::uint32_t i = 0; i < count; ++i) text += number_text(i);
  protocol::Usage usage;
  usage.completion_tokens = count;
  return protocol::render_answer(identity(kind), {{0, text, "", FinishReason::kLength}}, usage);
}

}  // namespace pd::bench
