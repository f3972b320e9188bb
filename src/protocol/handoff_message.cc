#include "protocol/handoff_message.h"

#include "base/check.h"
#include "protocol/wire.h"

namespace pd::protocol {

namespace {
constexpr std::uint32_t kMagic = 0x6F484450;  // "PDHo"
constexpr std::uint16_t kVersion = 1;
}  // namespace

std::string encode(const HandoffMessage& message) {
  std::string bytes;
  WireWriter out(bytes);
  out.number(kMagic);
  out.number(kVersion);
  out.number(static_cast<std::uint16_t>(message.outcome));
  out.number(message.id.request.high);
  out.number(message.id.request.low);
  out.number(message.id.attempt);
  out.number(message.epoch.value());
  out.number(message.read_key.high);
  out.number(message.read_key.low);
  CHECK(bytes.size() == kHandoffMessageBytes);
  return bytes;
}

Result<HandoffMessage> decode_handoff_message(std::span<const std::byte> bytes) {
  WireReader in({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  in.require(in.number<std::uint32_t>("magic") == kMagic, "magic");
  in.require(in.number<std::uint16_t>("version") == kVersion, "version");
  const auto outcome = in.number<std::uint16_t>("outcome");
  in.require(outcome <= static_cast<std::uint16_t>(HandoffOutcome::kCancelled), "outcome");
  HandoffMessage out;
  out.outcome = static_cast<HandoffOutcome>(outcome);
  out.id.request.high = in.number<std::uint64_t>("request id");
  out.id.request.low = in.number<std::uint64_t>("request id");
  out.id.attempt = in.number<std::uint32_t>("attempt");
  out.epoch = Epoch(in.number<std::uint64_t>("epoch"));
  out.read_key.high = in.number<std::uint64_t>("read key");
  out.read_key.low = in.number<std::uint64_t>("read key");
  in.end();
  if (!in.ok()) {
    return error(ErrorCode::kInvalidArgument,
                 std::string("handoff message: bad ") + in.failed_field());
  }
  return out;
}

}  // namespace pd::protocol
