#include <gtest/gtest.h>

#include "protocol/handoff_message.h"
#include "protocol/kv_descriptor.h"

namespace pd::protocol {
namespace {

KvDescriptor some_descriptor() {
  return {.boot_id = BootId(7),
          .address_blob = std::string("\0addr", 5),
          .region_key = std::string(kRegionKeyBytesMax, 'k'),
          .offset = 4096,
          .size = Bytes(123456),
          .layout_hash = 11,
          .weights_digest = 12,
          .tokens = Tokens(99),
          .epoch = Epoch(5),
          .read_key = {1, 2},
          .lease = std::chrono::milliseconds(5000)};
}

TEST(KvDescriptor, RoundTrips) {
  const KvDescriptor descriptor = some_descriptor();
  const auto again = decode_kv_descriptor(encode(descriptor));
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(*again, descriptor);
}

TEST(KvDescriptor, EveryTruncationAndExtensionIsRefused) {
  const std::string bytes = encode(some_descriptor());
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_FALSE(decode_kv_descriptor(std::string_view(bytes).substr(0, n))) << n;
  }
  EXPECT_FALSE(decode_kv_descriptor(bytes + "x"));
}

TEST(KvDescriptor, RefusesValuesOutsideTheLimitsAndNamesThem) {
  const auto refused = [](auto change, std::string_view field) {
    KvDescriptor descriptor = some_descriptor();
    change(descriptor);
    const auto decoded = decode_kv_descriptor(encode(descriptor));
    return !decoded && decoded.error().code == ErrorCode::kInvalidArgument &&
           decoded.error().message.ends_with(field);
  };
  EXPECT_TRUE(refused([](auto& d) { d.boot_id = BootId(); }, "boot id"));
  EXPECT_TRUE(refused([](auto& d) { d.size = Bytes(0); }, "size"));
  EXPECT_TRUE(refused([](auto& d) { d.size = Bytes(-1); }, "size"));
  EXPECT_TRUE(refused([](auto& d) { d.tokens = Tokens(0); }, "tokens"));
  EXPECT_TRUE(refused([](auto& d) { d.tokens = Tokens((1LL << 32) + 1); }, "tokens"));
  EXPECT_TRUE(refused([](auto& d) { d.offset = ~0ULL; }, "offset"));
}

TEST(KvDescriptor, AStringLengthBeyondTheInputIsRefused) {
  std::string bytes = encode(some_descriptor());
  bytes[10] = '\xff';  // the address's length
  bytes[11] = '\xff';
  EXPECT_FALSE(decode_kv_descriptor(bytes));
}

TEST(HandoffMessage, RoundTripsAndHasAFixedSize) {
  const HandoffMessage message{.id = {.request = {3, 4}, .attempt = 2},
                               .epoch = Epoch(9),
                               .read_key = {5, 6},
                               .outcome = HandoffOutcome::kFailed};
  const std::string bytes = encode(message);
  EXPECT_EQ(bytes.size(), kHandoffMessageBytes);
  const auto again = decode_handoff_message(std::as_bytes(std::span(bytes)));
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(*again, message);
}

TEST(HandoffMessage, RefusesOtherSizesVersionsAndOutcomes) {
  const std::string bytes = encode(HandoffMessage{});
  const auto decodes = [](std::string_view text) {
    return decode_handoff_message(std::as_bytes(std::span(text))).has_value();
  };
  ASSERT_TRUE(decodes(bytes));
  for (std::size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(decodes(bytes.substr(0, n)));
  EXPECT_FALSE(decodes(bytes + '\0'));
  for (const std::size_t at : {0, 4, 5, 7}) {
    std::string other = bytes;
    other[at] = '\x77';
    EXPECT_FALSE(decodes(other)) << at;
  }
}

}  // namespace
}  // namespace pd::protocol
