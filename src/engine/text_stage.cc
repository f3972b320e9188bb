#include "engine/text_stage.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace pd::engine {

using protocol::FinishReason;

TextStage::TextStage(const model::Tokenizer& tokenizer, const protocol::SamplingParams& params,
                     std::span<const TokenId> eos, std::optional<TokenId> before)
    : tokenizer_(&tokenizer),
      params_(params),
      stop_ids_(params.stop_ids),
      decoder_(tokenizer),
      matcher_(params.stop_strings) {
  if (!params.ignore_eos) stop_ids_.insert(stop_ids_.end(), eos.begin(), eos.end());
  for (const std::string& stop : params.stop_strings) {
    // A special token never appears in the text, but a client that names it means it.
    const std::optional<TokenId> id = tokenizer.id_of(stop);
    if (id && tokenizer.is_special(*id)) stop_ids_.push_back(*id);
  }
  std::sort(stop_ids_.begin(), stop_ids_.end());
  if (before) decoder_.append(*before);  // its text is the prompt's
}

TextStep TextStage::append(TokenId id) {
  if (finish_ != FinishReason::kNone) return {.text = {}, .finish = finish_, .token_bytes = {}};
  TextStep step = next(id);
  finish_ = step.finish;
  return step;
}

TextStep TextStage::next(TokenId id) {
  ++tokens_;
  TextStep step;
  if (!tokenizer_->is_special(id)) step.token_bytes = tokenizer_->token_bytes(id);
  if (is_stop(id)) {
    step.finish = FinishReason::kStop;
    step.text = take_rest(step.finish);
    return step;
  }
  if (feed(decoder_.append(id))) {
    step.finish = FinishReason::kStop;
    step.text = std::exchange(pending_, {});
    return step;
  }
  if (tokens_ >= params_.max_tokens.value()) {
    step.finish = FinishReason::kLength;
    step.text = take_rest(step.finish);
    return step;
  }
  step.text = take_sendable();
  return step;
}

FinishReason TextStage::replay(std::span<const TokenId> emitted) {
  CHECK(tokens_ == 0);
  for (const TokenId id : emitted) {
    const FinishReason finish = append(id).finish;
    if (finish != FinishReason::kNone) return finish;
  }
  return FinishReason::kNone;
}

std::string TextStage::finish() {
  FinishReason ignored = FinishReason::kNone;
  return take_rest(ignored);
}

bool TextStage::is_stop(TokenId id) const {
  return may_stop() && std::binary_search(stop_ids_.begin(), stop_ids_.end(), id);
}

bool TextStage::feed(std::string_view text) {
  for (const char byte : text) {
    pending_.push_back(byte);
    const std::size_t matched = matcher_.feed(byte);
    if (matched == 0 || !may_stop()) continue;
    pending_.resize(pending_.size() - matched);
    return true;
  }
  return false;
}

// Stop strings are UTF-8, so what is held back begins with a character, not inside one.
std::string TextStage::take_sendable() {
  const std::size_t ready = pending_.size() - matcher_.open();
  std::string text = pending_.substr(0, ready);
  pending_.erase(0, ready);
  return text;
}

// Incomplete characters become final here and may still complete a stop string.
std::string TextStage::take_rest(FinishReason& finish) {
  if (feed(decoder_.finish())) finish = FinishReason::kStop;
  return std::exchange(pending_, {});
}

}  // namespace pd::engine
