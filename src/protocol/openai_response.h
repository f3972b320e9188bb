// Answers of the OpenAI API. A stream's chunks are a prerendered prefix, the escaped text and a
// suffix: no document is built per token. Pure; the caller owns sockets and clocks.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "protocol/api_error.h"
#include "protocol/openai_request.h"
#include "protocol/pd_messages.h"

namespace pd::protocol {

struct Usage {
  std::int64_t prompt_tokens = 0;
  std::int64_t completion_tokens = 0;
  std::int64_t cached_tokens = 0;
};

// What a token is called in logprobs: its bytes inside a text (empty: unknown).
using TokenBytes = std::function<std::string(TokenId)>;

struct AnswerIdentity {
  ApiRequest::Kind kind = ApiRequest::Kind::kChat;
  std::string id;  // "chatcmpl-..." or "cmpl-..."
  std::string model;
  std::int64_t created = 0;  // Unix seconds
};

// The chunks of one stream as whole SSE events ("data: {...}\n\n").
class StreamRenderer {
 public:
  StreamRenderer(const AnswerIdentity& identity, bool include_usage, bool continuous_usage);

  // Chat: the first chunk of a choice, which names the role. Empty for completions.
  std::string first(int choice) const;
  // Text and logprobs of some tokens; `finish` on the last one. `logprobs`: a rendered object or
  // empty.
  void append_chunk(std::string& out, int choice, std::string_view text, std::string_view logprobs,
                    FinishReason finish, const Usage& usage) const;
  std::string usage_chunk(const Usage& usage) const;
  static std::string_view done() { return "data: [DONE]\n\n"; }
  // An error after the first byte: the stream ends with it and without [DONE] (G23).
  static std::string error_event(const ApiError& error);
  static std::string_view keep_alive() { return ": keep-alive\n\n"; }

 private:
  AnswerIdentity identity_;
  bool include_usage_, continuous_usage_;
  std::string prefix_;
};

struct FinishedChoice {
  int index = 0;
  std::string text;
  std::string logprobs;  // rendered object or empty
  FinishReason finish = FinishReason::kStop;
};
// Choices in order of index.
std::string render_answer(const AnswerIdentity& identity,
                          const std::vector<FinishedChoice>& choices, const Usage& usage);

// Characters (code points) by which the text grows with the next token of its sequence; a special
// token, or one inside a character, adds none.
using TextGrowth = std::function<std::int64_t(TokenId)>;
std::int64_t code_points(std::string_view text);

// The "logprobs" object of a choice. Completions: `text_offset` is the offset of the first token's
// text and moves on; `growth` is asked for every token once, in order. `head`: tokens without a
// value (echo: the first of the prompt).
std::string render_chat_logprobs(const std::vector<TokenLogprobs>& tokens,
                                 const TokenBytes& bytes_of);
std::string render_completion_logprobs(const std::vector<TokenId>& head,
                                       const std::vector<TokenLogprobs>& tokens,
                                       const TokenBytes& bytes_of, const TextGrowth& growth,
                                       std::int64_t& text_offset);

}  // namespace pd::protocol
