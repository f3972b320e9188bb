// What messages and frames of P/D share on the wire. Internal to protocol.
#pragma once

#include <fmt/format.h>

#include "protocol/pd_messages.h"
#include "protocol/wire.h"

namespace pd::protocol {

inline constexpr std::size_t kStringBytesMax = 64 * 1024;  // a stop string, a descriptor
inline constexpr std::size_t kTopMax = 1024;               // logprobs beside the chosen one

inline void write(WireWriter& out, const AttemptId& id) {
  out.number(id.request.high);
  out.number(id.request.low);
  out.number(id.attempt);
}

inline AttemptId read_attempt(WireReader& in) {
  AttemptId id;
  id.request.high = in.number<std::uint64_t>("request id");
  id.request.low = in.number<std::uint64_t>("request id");
  id.attempt = in.number<std::uint32_t>("attempt");
  return id;
}

void append(std::string& bytes, const PrefillRequest& message);
void append(std::string& bytes, const DecodeRequest& message);

inline void write(WireWriter& out, const Room& room) {
  out.number(room.requests);
  out.number(room.places);
  out.number(room.blocks_free);
  out.number(room.blocks_spare);
  out.number(room.block_tokens);
  out.number(room.growth_tokens);
  out.number(room.hold_us);
}

inline Room read_room(WireReader& in) {
  Room room;
  room.requests = in.number<std::uint32_t>("requests");
  room.places = in.number<std::uint32_t>("places");
  room.blocks_free = in.number<std::uint32_t>("free blocks");
  room.blocks_spare = in.number<std::uint32_t>("spare blocks");
  room.block_tokens = in.number<std::uint32_t>("block tokens");
  in.require(room.block_tokens >= 1 && room.block_tokens <= kTokensMax, "block tokens");
  room.growth_tokens = in.number<std::uint32_t>("growth");
  room.hold_us = in.number<std::uint32_t>("hold");
  return room;
}

// `value`, if all of the input was read and every field was there.
template <typename T>
Result<T> finish(WireReader& in, T value, const char* message) {
  in.end();
  if (!in.ok()) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: bad or missing field '{}'", message, in.failed_field()));
  }
  return value;
}

}  // namespace pd::protocol
