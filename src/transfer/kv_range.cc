#include "transfer/kv_range.h"

#include <fmt/format.h>

#include <atomic>
#include <cstring>

#include "base/check.h"
#include "base/digest.h"

namespace pd::transfer {
namespace {

constexpr std::uint64_t kMagic = 0x31'65'67'6E'61'72'76'6B;  // "kvrange1"
constexpr std::int64_t kAlignment = 64;

struct KvRangeHeader {
  std::uint64_t magic = 0;
  std::uint64_t epoch = 0;
  std::uint64_t key_high = 0;
  std::uint64_t key_low = 0;
  std::uint64_t layout_hash = 0;
  std::uint64_t weights_digest = 0;
  std::uint64_t tokens = 0;
};

std::span<const std::byte> layer_bytes(const protocol::KvLayout& layout,
                                       std::span<const std::byte> range, Tokens tokens, int layer) {
  const auto start = static_cast<std::size_t>(
      (range_header_bytes(layout) + layout.plane_offset(layer, 0, tokens)).value());
  return range.subspan(start, static_cast<std::size_t>(layout.row().value() * 2 * tokens.value()));
}

}  // namespace

Bytes range_header_bytes(const protocol::KvLayout& layout) {
  const auto plain =
      static_cast<std::int64_t>(sizeof(KvRangeHeader)) + std::int64_t{layout.layers} * 8;
  return Bytes((plain + kAlignment - 1) / kAlignment * kAlignment);
}

Bytes range_bytes(const protocol::KvLayout& layout, Tokens tokens) {
  return range_header_bytes(layout) + layout.range(tokens);
}

std::span<std::byte> kv_of(const protocol::KvLayout& layout, std::span<std::byte> range) {
  return range.subspan(static_cast<std::size_t>(range_header_bytes(layout).value()));
}

void write_range_header(const protocol::KvLayout& layout, std::span<std::byte> range,
                        const KvRangeTicket& ticket) {
  CHECK(static_cast<std::int64_t>(range.size()) == range_bytes(layout, ticket.tokens).value());
  for (int layer = 0; layer < layout.layers; ++layer) {
    const std::uint64_t digest = layer_digest(layout, range, ticket.tokens, layer);
    std::memcpy(range.data() + sizeof(KvRangeHeader) + static_cast<std::size_t>(layer) * 8, &digest,
                sizeof(digest));
  }
  KvRangeHeader header{0,
                       ticket.epoch.value(),
                       ticket.read_key.high,
                       ticket.read_key.low,
                       layout.hash(),
                       layout.weights_digest,
                       static_cast<std::uint64_t>(ticket.tokens.value())};
  std::memcpy(range.data(), &header, sizeof(header));
  // A peer on this machine may read while we write: it must not see the magic before the rest.
  std::atomic_thread_fence(std::memory_order_release);
  std::memcpy(range.data(), &kMagic, sizeof(kMagic));
}

void invalidate_range(std::span<std::byte> range) {
  std::memset(range.data(), 0, sizeof(KvRangeHeader));
  std::atomic_thread_fence(std::memory_order_release);
}

Status check_range_header(const protocol::KvLayout& layout, std::span<const std::byte> range,
                          const KvRangeTicket& ticket) {
  if (static_cast<std::int64_t>(range.size()) < range_header_bytes(layout).value()) {
    return error(ErrorCode::kCorrupt,
                 fmt::format("KV range: cut off after {} bytes, its header "
                             "has {}",
                             range.size(), range_header_bytes(layout).value()));
  }
  KvRangeHeader header;
  std::memcpy(&header, range.data(), sizeof(header));
  std::atomic_thread_fence(std::memory_order_acquire);
  if (header.magic == 0)
    return error(ErrorCode::kUnavailable, "KV range: its holder has given it up");
  const auto differs = [](const char* what) {
    return error(ErrorCode::kCorrupt,
                 fmt::format("KV range: {} differs from the descriptor's", what));
  };
  if (header.magic != kMagic) return differs("magic");
  if (header.epoch != ticket.epoch.value()) return differs("epoch");
  if (header.key_high != ticket.read_key.high || header.key_low != ticket.read_key.low)
    return differs("read key");
  if (header.layout_hash != layout.hash()) return differs("layout");
  if (header.weights_digest != layout.weights_digest) return differs("weights digest");
  if (header.tokens != static_cast<std::uint64_t>(ticket.tokens.value()))
    return differs("token count");
  return {};
}

std::uint64_t stored_layer_digest(std::span<const std::byte> range, int layer) {
  std::uint64_t digest = 0;
  std::memcpy(&digest, range.data() + sizeof(KvRangeHeader) + static_cast<std::size_t>(layer) * 8,
              sizeof(digest));
  return digest;
}

std::uint64_t layer_digest(const protocol::KvLayout& layout, std::span<const std::byte> range,
                           Tokens tokens, int layer) {
  return digest64(layer_bytes(layout, range, tokens, layer), static_cast<std::uint64_t>(layer));
}

}  // namespace pd::transfer
