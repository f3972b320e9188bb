#include "transfer/ucx_wire.h"

#include <cstring>
#include <span>

#include "base/digest.h"
#include "protocol/wire.h"

namespace pd::transfer {

using protocol::WireReader;
using protocol::WireWriter;

namespace {

// One number per kind and version: an old peer's message is refused, not misread.
constexpr std::uint32_t kAddressMagic = 0x31614450;  // "PDa1"
constexpr std::uint32_t kKeyMagic = 0x316B4450;      // "PDk1"
constexpr std::uint32_t kHelloMagic = 0x31684450;    // "PDh1"
constexpr std::uint32_t kWelcomeMagic = 0x31774450;  // "PDw1"
constexpr std::uint32_t kReadMagic = 0x31724450;     // "PDr1"
constexpr std::size_t kKeyBytesMax = 1024;
constexpr std::uint64_t kRegionBytesMax = std::uint64_t{1} << 48;

std::uint64_t digest_of(std::string_view bytes) {
  return digest64(std::as_bytes(std::span(bytes)));
}

std::unexpected<Error> bad(const char* what, const WireReader& in) {
  return error(ErrorCode::kInvalidArgument,
               std::string(what) + ": bad " + in.failed_field() + "; not made by this version");
}

}  // namespace

std::string encode(const SocketAddress& address) {
  std::string bytes;
  WireWriter out(bytes);
  out.number(kAddressMagic);
  out.number(static_cast<std::uint8_t>(address.v6 ? 6 : 4));
  out.number(address.port);
  for (const std::uint8_t byte : address.ip) out.number(byte);
  return bytes;
}

Result<SocketAddress> decode_address(std::string_view bytes) {
  WireReader in(bytes);
  SocketAddress out;
  in.require(in.number<std::uint32_t>("magic") == kAddressMagic, "magic");
  const auto family = in.number<std::uint8_t>("family");
  in.require(family == 4 || family == 6, "family");
  out.v6 = family == 6;
  out.port = in.number<std::uint16_t>("port");
  in.require(out.port != 0, "port");
  for (std::uint8_t& byte : out.ip) byte = in.number<std::uint8_t>("ip");
  in.end();
  if (!in.ok()) return bad("KV transport address", in);
  return out;
}

std::string encode(const RegionKey& key) {
  std::string bytes;
  WireWriter out(bytes);
  out.number(kKeyMagic);
  out.number(key.owner.value());
  out.number(key.region);
  out.number(key.size);
  out.number(key.memory.process);
  out.number(key.memory.descriptor);
  out.number(key.memory.device);
  out.number(key.memory.inode);
  out.number(digest_of(bytes));
  return bytes;
}

Result<RegionKey> decode_region_key(std::string_view bytes) {
  WireReader in(bytes);
  RegionKey out;
  in.require(in.number<std::uint32_t>("magic") == kKeyMagic, "magic");
  out.owner = BootId(in.number<std::uint64_t>("owner"));
  out.region = in.number<std::uint32_t>("region");
  out.size = in.number<std::uint64_t>("size");
  in.require(out.size >= 1 && out.size <= kRegionBytesMax, "size");
  out.memory.process = in.number<std::uint32_t>("process");
  out.memory.descriptor = in.number<std::uint32_t>("descriptor");
  out.memory.device = in.number<std::uint64_t>("device");
  out.memory.inode = in.number<std::uint64_t>("inode");
  const auto digest = in.number<std::uint64_t>("digest");
  in.end();
  if (!in.ok()) return bad("KV region key", in);
  if (digest != digest_of(bytes.substr(0, bytes.size() - sizeof(digest)))) {
    return error(ErrorCode::kCorrupt, "KV region key: its digest does not fit; damaged on the way");
  }
  return out;
}

std::string encode(const Hello& hello) {
  std::string bytes;
  WireWriter out(bytes);
  out.number(kHelloMagic);
  out.number(hello.from.value());
  out.number(hello.to.value());
  return bytes;
}

Result<Hello> decode_hello(std::string_view bytes) {
  WireReader in(bytes);
  Hello out;
  in.require(in.number<std::uint32_t>("magic") == kHelloMagic, "magic");
  out.from = BootId(in.number<std::uint64_t>("from"));
  in.require(out.from != BootId(), "from");
  out.to = BootId(in.number<std::uint64_t>("to"));
  in.end();
  if (!in.ok()) return bad("KV hello", in);
  return out;
}

std::string encode(const Welcome& welcome) {
  std::string bytes;
  WireWriter out(bytes);
  out.number(kWelcomeMagic);
  out.number(welcome.self.value());
  out.bytes(welcome.identity);
  return bytes;
}

Result<Welcome> decode_welcome(std::string_view bytes) {
  WireReader in(bytes);
  Welcome out;
  in.require(in.number<std::uint32_t>("magic") == kWelcomeMagic, "magic");
  out.self = BootId(in.number<std::uint64_t>("self"));
  out.identity = in.bytes("identity", kKeyBytesMax);
  in.end();
  if (!in.ok()) return bad("KV welcome", in);
  return out;
}

std::string encode(const ReadRequest& read) {
  std::string bytes;
  WireWriter out(bytes);
  out.number(kReadMagic);
  out.number(read.region);
  out.number(read.offset);
  out.number(read.size);
  return bytes;
}

Result<ReadRequest> decode_read(std::string_view bytes) {
  WireReader in(bytes);
  ReadRequest out;
  in.require(in.number<std::uint32_t>("magic") == kReadMagic, "magic");
  out.region = in.number<std::uint32_t>("region");
  out.offset = in.number<std::uint64_t>("offset");
  out.size = in.number<std::uint32_t>("size");
  in.require(out.size >= 1 && out.size <= kReadBytesMax, "size");
  in.end();
  if (!in.ok()) return bad("KV read", in);
  return out;
}

std::array<char, kMessageHeaderBytes> encode(const MessageHeader& header) {
  std::array<char, kMessageHeaderBytes> bytes = {static_cast<char>(header.kind)};
  std::memcpy(bytes.data() + 1, &header.id, sizeof(header.id));
  return bytes;
}

Result<MessageHeader> decode_message_header(std::string_view bytes) {
  WireReader in(bytes);
  MessageHeader out;
  const auto kind = in.number<std::uint8_t>("kind");
  in.require(kind >= 1 && kind <= static_cast<std::uint8_t>(MessageKind::kPong), "kind");
  out.kind = static_cast<MessageKind>(kind);
  out.id = in.number<std::uint64_t>("id");
  in.end();
  if (!in.ok()) return bad("KV message", in);
  return out;
}

}  // namespace pd::transfer
