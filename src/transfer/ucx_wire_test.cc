#include "transfer/ucx_wire.h"

#include <gtest/gtest.h>

namespace pd::transfer {
namespace {

const RegionKey kKey{.owner = BootId(7),
                     .region = 3,
                     .size = 1 << 20,
                     .memory = {.process = 1, .descriptor = 2, .device = 3, .inode = 4}};

TEST(UcxWire, ValuesRoundTrip) {
  const SocketAddress address{.ip = {127, 0, 0, 1}, .v6 = false, .port = 4711};
  EXPECT_EQ(decode_address(encode(address)).value(), address);
  EXPECT_EQ(decode_region_key(encode(kKey)).value(), kKey);
  const Hello hello{BootId(1), BootId(2)};
  EXPECT_EQ(decode_hello(encode(hello)).value(), hello);
  const ReadRequest read{.region = 1, .offset = 2, .size = 3};
  EXPECT_EQ(decode_read(encode(read)).value(), read);
  const auto header = encode(MessageHeader{MessageKind::kData, 77});
  EXPECT_EQ(decode_message_header({header.data(), header.size()}).value(),
            (MessageHeader{MessageKind::kData, 77}));
  const Welcome welcome{BootId(3), encode(kKey)};
  EXPECT_EQ(decode_welcome(encode(welcome)).value(), welcome);
}

TEST(UcxWire, EveryTruncationExtensionAndKindMixUpIsRefused) {
  const std::string messages[] = {
      encode(SocketAddress{.port = 1}), encode(kKey), encode(Hello{BootId(1), BootId(2)}),
      encode(Welcome{BootId(3), "identity"}), encode(ReadRequest{.size = 1})};
  const auto accepted = [](std::string_view bytes) {
    return (decode_address(bytes) ? 1 : 0) + (decode_region_key(bytes) ? 1 : 0) +
           (decode_hello(bytes) ? 1 : 0) + (decode_welcome(bytes) ? 1 : 0) +
           (decode_read(bytes) ? 1 : 0);
  };
  for (const std::string& message : messages) {
    EXPECT_EQ(accepted(message), 1);
    EXPECT_EQ(accepted(message + "x"), 0);
    for (std::size_t n = 0; n < message.size(); ++n) EXPECT_EQ(accepted(message.substr(0, n)), 0);
  }
}

TEST(UcxWire, ADamagedRegionKeyIsRefusedWhicheverBitFlipped) {
  const std::string bytes = encode(kKey);
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(decode_region_key(damaged)) << bit;
  }
}

TEST(UcxWire, ReadsAndKindsOutsideTheLimitsAreRefused) {
  EXPECT_TRUE(decode_read(encode(ReadRequest{.size = kReadBytesMax})));
  EXPECT_FALSE(decode_read(encode(ReadRequest{.size = kReadBytesMax + 1})));
  EXPECT_FALSE(decode_read(encode(ReadRequest{.size = 0})));
  for (const int kind : {0, 9, 255}) {
    const auto header = encode(MessageHeader{static_cast<MessageKind>(kind), 1});
    EXPECT_FALSE(decode_message_header({header.data(), header.size()}));
  }
}

TEST(UcxWire, ARegionWithoutBytesOrWithTooManyIsRefused) {
  RegionKey key = kKey;
  key.size = 0;
  EXPECT_FALSE(decode_region_key(encode(key)));
  key.size = ~0ULL;
  EXPECT_FALSE(decode_region_key(encode(key)));
}

}  // namespace
}  // namespace pd::transfer
