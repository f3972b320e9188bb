// The tokens of an answer that nobody reads before it is whole, on their way to the gateway
// together: one frame for all of them costs it what one for each would cost every time. After
// kGatherTime the next token takes them along, because what a D has not said is computed again when
// it dies. Not thread-safe.
#pragma once

#include <optional>

#include "base/time.h"
#include "protocol/pd_messages.h"

namespace pd::legs {

inline constexpr Duration kGatherTime = std::chrono::milliseconds(250);

class GatheredTokens {
 public:
  // `frame` follows what was added before. Returns what is to be sent now: all that is held, when
  // it is the last or the first of them has waited for kGatherTime.
  std::optional<protocol::TokensFrame> add(protocol::TokensFrame frame, Time now);
  // All that is held, when something else than tokens is to be said.
  std::optional<protocol::TokensFrame> take();

 private:
  std::optional<protocol::TokensFrame> held_;
  Time since_;
};

}  // namespace pd::legs
