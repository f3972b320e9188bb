// D's notice to P that it is done with a range, sent over the KV transport: so P frees the slot
// without waiting for the lease. Fixed size, little-endian. P believes it only if attempt, epoch
// and read key are those of a range it holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "base/units.h"
#include "protocol/kv_descriptor.h"
#include "protocol/pd_messages.h"

namespace pd::protocol {

enum class HandoffOutcome : std::uint8_t {
  kDone = 0,       // the KV is in D's pool
  kFailed = 1,     // D gave up: the data did not pass its check, twice
  kCancelled = 2,  // D gave up: the request ended or its deadline passed
};

struct HandoffMessage {
  AttemptId id;
  Epoch epoch;
  ReadKey read_key;
  HandoffOutcome outcome = HandoffOutcome::kDone;
  bool operator==(const HandoffMessage&) const = default;
};

inline constexpr std::size_t kHandoffMessageBytes = 52;

std::string encode(const HandoffMessage& message);
// kInvalidArgument: not exactly one message, another kind or version, or an unknown outcome.
Result<HandoffMessage> decode_handoff_message(std::span<const std::byte> bytes);

}  // namespace pd::protocol
