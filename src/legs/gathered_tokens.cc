#include "legs/gathered_tokens.h"

#include <iterator>
#include <utility>

namespace pd::legs {

std::optional<protocol::TokensFrame> GatheredTokens::add(protocol::TokensFrame frame, Time now) {
  const bool last = frame.finish != protocol::FinishReason::kNone;
  if (!held_) {
    held_ = std::move(frame);
    since_ = now;
  } else {
    held_->ids.insert(held_->ids.end(), frame.ids.begin(), frame.ids.end());
    held_->text += frame.text;
    held_->finish = frame.finish;
    held_->logprobs.insert(held_->logprobs.end(), std::make_move_iterator(frame.logprobs.begin()),
                           std::make_move_iterator(frame.logprobs.end()));
  }
  if (!last && now - since_ < kGatherTime) return std::nullopt;
  return take();
}

std::optional<protocol::TokensFrame> GatheredTokens::take() {
  return std::exchange(held_, std::nullopt);
}

}  // namespace pd::legs
