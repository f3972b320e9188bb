// What UCX transports say to each other besides KV bytes, as plain values: address, region key, and
// the handshake. Pure; every length is checked, a digest keeps damaged keys away from UCX, whose
// own unpacking knows no lengths.
//
//   connector → listener   Hello {my boot id, the one I expect}
//   listener → connector   Welcome {my boot id, identity}
//   then, if the ids agree, from the connector: Notify messages, and Read messages, each answered
//   with one Data message or with Refused. Where memory is shared, nobody asks: it is read in
//   place.
//
// UCX's own remote reads are not used: over TCP they are emulated, and the emulation ends the
// process that is read from when the reader dies (UCX 1.13, ucp_get_req_handler).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/units.h"
#include "transfer/shared_memory.h"

namespace pd::transfer {

inline constexpr std::size_t kNotifyBytesMax = 4096;

struct SocketAddress {
  std::array<std::uint8_t, 16> ip{};  // network order; IPv4 in the first four
  bool v6 = false;
  std::uint16_t port = 0;
  bool operator==(const SocketAddress&) const = default;
};

struct RegionKey {
  BootId owner;
  std::uint32_t region = 0;  // among the owner's
  std::uint64_t size = 0;
  SharedMemoryKey memory;
  bool operator==(const RegionKey&) const = default;
};

// Kind and id precede every message. The id ties a Read to its answer and is 0 otherwise.
enum class MessageKind : std::uint8_t {
  kHello = 1,
  kWelcome = 2,
  kNotify = 3,
  kRead = 4,
  kData = 5,
  kRefused = 6,  // no such region, or the range is not inside it
  kPing = 7,     // still there?
  kPong = 8,
};
struct MessageHeader {
  MessageKind kind = MessageKind::kHello;
  std::uint64_t id = 0;
  bool operator==(const MessageHeader&) const = default;
};
inline constexpr std::size_t kMessageHeaderBytes = 9;

// One piece of a pull. UCX moves it as one fragment: no reassembly, no rendezvous.
inline constexpr std::uint32_t kReadBytesMax = 192 * 1024;
struct ReadRequest {
  std::uint32_t region = 0;  // RegionKey::region
  std::uint64_t offset = 0;
  std::uint32_t size = 0;  // 1 to kReadBytesMax
  bool operator==(const ReadRequest&) const = default;
};

struct Hello {
  BootId from;
  BootId to;
  bool operator==(const Hello&) const = default;
};

struct Welcome {
  BootId self;
  std::string identity;  // encoded RegionKey of a page that holds this boot id
  bool operator==(const Welcome&) const = default;
};

std::string encode(const SocketAddress& address);
std::string encode(const RegionKey& key);
std::string encode(const Hello& hello);
std::string encode(const Welcome& welcome);
std::string encode(const ReadRequest& read);
std::array<char, kMessageHeaderBytes> encode(const MessageHeader& header);

// kInvalidArgument names the field; kCorrupt: the region key's digest does not fit.
Result<SocketAddress> decode_address(std::string_view bytes);
Result<RegionKey> decode_region_key(std::string_view bytes);
Result<Hello> decode_hello(std::string_view bytes);
Result<Welcome> decode_welcome(std::string_view bytes);
Result<ReadRequest> decode_read(std::string_view bytes);
Result<MessageHeader> decode_message_header(std::string_view bytes);

}  // namespace pd::transfer
