// The claim ticket of a prompt's KV: where it lies on P, what it is, and the key that proves the
// reader was sent there. P answers a prefill with it, the gateway relays it as opaque bytes, D
// pulls by it. Everything in it is checked again beside the data (transfer/kv_range.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"
#include "base/units.h"

namespace pd::protocol {

inline constexpr std::size_t kAddressBlobBytesMax = 4096;
inline constexpr std::size_t kRegionKeyBytesMax = 1024;

// 128 random bits, new for every range: who does not know them was not sent (G30).
struct ReadKey {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  constexpr bool operator==(const ReadKey&) const = default;
};

struct KvDescriptor {
  BootId boot_id;            // of the instance that holds the range
  std::string address_blob;  // of its transport, opaque here; at most kAddressBlobBytesMax
  std::string region_key;    // of the exposed region, opaque here; at most kRegionKeyBytesMax
  std::uint64_t offset = 0;  // of the range (its header) in the region
  Bytes size;                // of the range, header included; at least 1
  std::uint64_t layout_hash = 0;
  std::uint64_t weights_digest = 0;
  Tokens tokens;  // at least 1
  Epoch epoch;
  ReadKey read_key;
  std::chrono::milliseconds lease{0};  // from the moment the descriptor was made
  bool operator==(const KvDescriptor&) const = default;
};

// Fields over the limits are a CHECK: they come from this process's own transport.
std::string encode(const KvDescriptor& descriptor);
// kInvalidArgument names the field. Never allocates more than the input's size.
Result<KvDescriptor> decode_kv_descriptor(std::string_view bytes);

}  // namespace pd::protocol
