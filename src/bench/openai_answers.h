// Answers requests of the OpenAI API with numbered tokens, at the pace of a stub. Loop thread only.
#pragma once

#include <cstdint>

#include "base/units.h"
#include "bench/numbered_tokens.h"
#include "bench/stepper.h"
#include "net/event_loop.h"
#include "net/http_server.h"

namespace pd::bench {

struct WantedAnswer {
  NumberedTokens::Kind kind = NumberedTokens::Kind::kCompletion;
  bool stream = false;
  std::uint32_t count = 1;  // tokens, in [1, kNumberedTokensMax]
};

// The output tokens that an answer may have which was asked for with such a limit.
std::uint32_t count_of(Tokens max_tokens);

class OpenAiAnswers {
 public:
  // `loop` outlives it.
  OpenAiAnswers(net::EventLoop& loop, const Pace& pace)
      : loop_(loop), pace_(pace), stepper_(loop, pace) {}

  // The prompt has been computed: the first token is there. One in one piece takes the time that
  // the steps of a stream would.
  void answer(const WantedAnswer& wanted, net::HttpResponse response);

  NumberedTokens& tokens() { return tokens_; }
  Stepper& stepper() { return stepper_; }

 private:
  void stream(const WantedAnswer& wanted, net::HttpResponse response);

  net::EventLoop& loop_;
  Pace pace_;
  NumberedTokens tokens_;
  Stepper stepper_;
};

}  // namespace pd::bench
