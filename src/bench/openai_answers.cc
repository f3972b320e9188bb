#include "bench/openai_answers.h"

#include <algorithm>
#include <utility>

namespace pd::bench {

std::uint32_t count_of(Tokens max_tokens) {
  return static_cast<std::uint32_t>(
      std::clamp<Tokens::rep>(max_tokens.value(), 1, kNumberedTokensMax));
}

void OpenAiAnswers::answer(const WantedAnswer& wanted, net::HttpResponse response) {
  if (wanted.stream) return stream(wanted, std::move(response));
  const auto send = [wanted](net::HttpResponse& open) {
    open.send(200, "application/json", NumberedTokens::answer(wanted.kind, wanted.count));
  };
  const Duration steps = pace_.step * (wanted.count - 1);
  if (steps == Duration{0}) return send(response);
  loop_.call_at(loop_.now() + steps, [send, response]() mutable { send(response); });
}

void OpenAiAnswers::stream(const WantedAnswer& wanted, net::HttpResponse response) {
  const NumberedTokens::Kind kind = wanted.kind;
  response.start(200, "text/event-stream; charset=utf-8", {{"cache-control", "no-cache"}});
  response.write(tokens_.opening(kind));
  response.write(tokens_.event(kind, 0));
  const auto finish = [this, kind](net::HttpResponse& open) {
    open.write(tokens_.closing(kind));
    open.end();
  };
  if (wanted.count == 1) return finish(response);
  stepper_.add(response, [this, kind, count = wanted.count, response, finish,
                          next = std::uint32_t{1}](int burst) mutable {
    if (!response.open()) return false;
    for (; burst > 0 && next < count; --burst) response.write(tokens_.event(kind, next++));
    if (next < count) return true;
    finish(response);
    return false;
  });
}

}  // namespace pd::bench
