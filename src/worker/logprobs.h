// Log-probabilities as the wire has them.
#pragma once

#include <vector>

#include "protocol/pd_messages.h"

namespace pd::worker {

inline std::vector<protocol::LogprobEntry> to_entries(const auto& list) {
  std::vector<protocol::LogprobEntry> out;
  for (const auto& item : list) out.push_back({item.id, item.logprob});
  return out;
}
// Of a sampled token.
inline protocol::TokenLogprobs to_logprobs(const auto& token) {
  return {{token.id, token.logprob}, to_entries(token.top)};
}

}  // namespace pd::worker
