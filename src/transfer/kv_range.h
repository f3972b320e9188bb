// A prompt's range in P's send buffer: a header that says what it is, then the contiguous KV.
//
//   [KvRangeHeader][per-layer digests][padding to 64][K and V:
//   [layer][K|V][token][kv_head][head_dim]]
//
// D reads header and data in the same pull and believes the data only if the header carries the
// descriptor's epoch and read key and every layer's digest fits. P wipes the header before the
// memory is used for anything else, so the key dies with the lease.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "base/units.h"
#include "protocol/kv_descriptor.h"
#include "protocol/kv_layout.h"

namespace pd::transfer {

struct KvRangeTicket {
  Epoch epoch;
  protocol::ReadKey read_key;
  Tokens tokens;
};

// Size of header and digests; a multiple of 64, so that the KV is aligned for any vector.
Bytes range_header_bytes(const protocol::KvLayout& layout);
// Size of a whole range of `tokens` tokens.
Bytes range_bytes(const protocol::KvLayout& layout, Tokens tokens);
// The KV part of a whole range.
std::span<std::byte> kv_of(const protocol::KvLayout& layout, std::span<std::byte> range);

// Computes the digests of the KV in `range` and writes the header, its magic last. `range` has
// range_bytes().
void write_range_header(const protocol::KvLayout& layout, std::span<std::byte> range,
                        const KvRangeTicket& ticket);
// Afterwards no reader believes the range.
void invalidate_range(std::span<std::byte> range);

// Checks the header (the first range_header_bytes() of `range`, or all of it) against what the
// descriptor promised; not the digests. kCorrupt names what differs; kUnavailable: the range was
// given up (its header is wiped).
Status check_range_header(const protocol::KvLayout& layout, std::span<const std::byte> range,
                          const KvRangeTicket& ticket);
// The digest of one layer's K and V, as the header has it and as the data gives it.
std::uint64_t stored_layer_digest(std::span<const std::byte> range, int layer);
std::uint64_t layer_digest(const protocol::KvLayout& layout, std::span<const std::byte> range,
                           Tokens tokens, int layer);

}  // namespace pd::transfer
