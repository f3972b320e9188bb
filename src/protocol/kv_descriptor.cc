#include "protocol/kv_descriptor.h"

#include <limits>

#include "base/check.h"
#include "protocol/wire.h"

namespace pd::protocol {

namespace {

constexpr std::uint16_t kDescriptorVersion = 1;
// Far above any prompt, far below where `tokens * bytes per token` could overflow.
constexpr std::int64_t kTokensMax = std::int64_t{1} << 32;
constexpr std::int64_t kRangeBytesMax = std::int64_t{1} << 48;
constexpr std::uint32_t kLeaseMsMax = 24U * 3600U * 1000U;

}  // namespace

std::string encode(const KvDescriptor& descriptor) {
  CHECK(descriptor.address_blob.size() <= kAddressBlobBytesMax);
  CHECK(descriptor.region_key.size() <= kRegionKeyBytesMax);
  CHECK(descriptor.lease.count() >= 0);
  CHECK(descriptor.lease.count() <= kLeaseMsMax);
  std::string bytes;
  WireWriter out(bytes);
  out.number(kDescriptorVersion);
  out.number(descriptor.boot_id.value());
  out.bytes(descriptor.address_blob);
  out.bytes(descriptor.region_key);
  out.number(descriptor.offset);
  out.number(descriptor.size.value());
  out.number(descriptor.layout_hash);
  out.number(descriptor.weights_digest);
  out.number(descriptor.tokens.value());
  out.number(descriptor.epoch.value());
  out.number(descriptor.read_key.high);
  out.number(descriptor.read_key.low);
  out.number(static_cast<std::uint32_t>(descriptor.lease.count()));
  return bytes;
}

Result<KvDescriptor> decode_kv_descriptor(std::string_view bytes) {
  WireReader in(bytes);
  KvDescriptor out;
  in.require(in.number<std::uint16_t>("version") == kDescriptorVersion, "version");
  out.boot_id = BootId(in.number<std::uint64_t>("boot id"));
  in.require(out.boot_id != BootId(), "boot id");
  out.address_blob = in.bytes("address", kAddressBlobBytesMax);
  out.region_key = in.bytes("region key", kRegionKeyBytesMax);
  out.offset = in.number<std::uint64_t>("offset");
  in.require(out.offset <= static_cast<std::uint64_t>(kRangeBytesMax), "offset");
  out.size = Bytes(in.number<std::int64_t>("size"));
  in.require(out.size.value() >= 1, "size");
  in.require(out.size.value() <= kRangeBytesMax, "size");
  out.layout_hash = in.number<std::uint64_t>("layout hash");
  out.weights_digest = in.number<std::uint64_t>("weights digest");
  out.tokens = Tokens(in.number<std::int64_t>("tokens"));
  in.require(out.tokens.value() >= 1, "tokens");
  in.require(out.tokens.value() <= kTokensMax, "tokens");
  out.epoch = Epoch(in.number<std::uint64_t>("epoch"));
  out.read_key.high = in.number<std::uint64_t>("read key");
  out.read_key.low = in.number<std::uint64_t>("read key");
  const auto lease_ms = in.number<std::uint32_t>("lease");
  in.require(lease_ms <= kLeaseMsMax, "lease");
  out.lease = std::chrono::milliseconds(lease_ms);
  in.end();
  if (!in.ok()) {
    return error(ErrorCode::kInvalidArgument,
                 std::string("KV descriptor: bad ") + in.failed_field());
  }
  return out;
}

}  // namespace pd::protocol
