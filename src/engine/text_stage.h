// One request's output: tokens in, text out, and the end. A function of the tokens alone, so that
// a resumed request goes on with exactly the text that its first instance would have sent (G5).
//
//   token -> StreamDecoder (whole characters) -> StopMatcher (holds back what could become a stop
//   string) -> text that may be sent
//
// What ends it: a stop string (the text ends before it), the model's eos or a stop id (no text of
// its own), a stop string that is a special token's text, max_tokens. Of two stop strings the one
// that is complete first counts; of two complete at once the longer.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/units.h"
#include "engine/stop_matcher.h"
#include "model/tokenizer/tokenizer.h"
#include "protocol/sampling_params.h"

namespace pd::engine {

struct TextStep {
  std::string text;  // may be sent now: final, whole characters
  protocol::FinishReason finish = protocol::FinishReason::kNone;
  std::string token_bytes;  // the token's own bytes, for logprobs; empty for special tokens
};

class TextStage {
 public:
  // `tokenizer` outlives it. `eos`: the model's own end ids. `before`: the prompt's last token, if
  // the output's text is to continue the prompt's (a SentencePiece tokenizer drops the space of
  // what it takes for the first word). Every instance of a request must be given the same.
  TextStage(const model::Tokenizer& tokenizer, const protocol::SamplingParams& params,
            std::span<const TokenId> eos, std::optional<TokenId> before = std::nullopt);

  // The next output token. With a finish reason, `text` is the rest, and further tokens are
  // ignored: they get the same reason and no text. Stop ids and strings that are complete within
  // the first min_tokens tokens do not count.
  TextStep append(TokenId id);

  // Rebuilds the state behind tokens whose text was sent already. Anything but kNone: the request
  // was over with them. Only before the first append().
  protocol::FinishReason replay(std::span<const TokenId> emitted);

  // What is held back, for a request that ends from outside (deadline, operator): the last call.
  std::string finish();

  std::int64_t tokens() const { return tokens_; }  // output tokens seen

 private:
  TextStep next(TokenId id);
  bool may_stop() const { return tokens_ > params_.min_tokens.value(); }
  bool is_stop(TokenId id) const;
  // Takes text in; true: a stop string is complete, pending_ ends before it.
  bool feed(std::string_view text);
  std::string take_sendable();
  std::string take_rest(protocol::FinishReason& finish);

  const model::Tokenizer* tokenizer_;
  protocol::SamplingParams params_;
  std::vector<TokenId> stop_ids_;  // sorted
  model::StreamDecoder decoder_;
  StopMatcher matcher_;
  std::string pending_;  // decoded, not sent
  std::int64_t tokens_ = 0;
  protocol::FinishReason finish_ = protocol::FinishReason::kNone;
};

}  // namespace pd::engine
