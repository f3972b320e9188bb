// What stub workers say instead of a model's text: the tokens of every answer are its indices, "0",
// " 1", " 2" ..., so that whoever reads it sees a missing or doubled one. Rendered once for all
// streams alike. Not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/openai_request.h"
#include "protocol/openai_response.h"
#include "protocol/pd_messages.h"

namespace pd::bench {

inline constexpr std::uint32_t kNumberedTokensMax = 65536;  // of one answer

std::string number_text(std::uint32_t index);

class NumberedTokens {
 public:
  using Kind = protocol::ApiRequest::Kind;
  NumberedTokens();

  // Token `index` as a frame of the P/D protocol.
  static protocol::TokensFrame token(std::uint32_t index);
  // The same on the wire; the views stay valid until the next call.
  std::string_view frame(std::uint32_t index);
  // The same token when it is the answer's last.
  static std::string last_frame(std::uint32_t index);

  // The same as server-sent events of the OpenAI API: opening, tokens, closing make a stream.
  std::string opening(Kind kind) const;
  std::string_view event(Kind kind, std::uint32_t index);
  std::string closing(Kind kind) const;
  // A whole answer of `count` tokens.
  static std::string answer(Kind kind, std::uint32_t count);

 private:
  const protocol::StreamRenderer& renderer(Kind kind) const {
    return kind == Kind::kChat ? chat_ : completion_;
  }

  protocol::StreamRenderer chat_, completion_;
  std::vector<std::string> frames_, chat_events_, completion_events_;
};

}  // namespace pd::bench
