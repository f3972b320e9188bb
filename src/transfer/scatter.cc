#include "transfer/scatter.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "transfer/row_copy.h"

namespace pd::transfer {
namespace {

// About where a core's share of the last-level cache ends on the CPUs we know.
constexpr Bytes kCachedMax{8LL << 20};
constexpr std::size_t kLine = 64;
// Memory answers within the time it takes to digest and copy this much (some 500 ns). The hardware
// prefetches by itself only inside one stream; digesting and copying in turn are two.
constexpr Bytes kPrefetch{12 * 1024};

// The rows of one plane that lie in one block.
struct BlockPart {
  std::byte* block;         // start of the block's plane
  std::int64_t token = 0;   // first one, inside the block
  std::int64_t count = 0;   // tokens
  std::int64_t offset = 0;  // of the first one's row, in bytes from the first row of all
};

std::size_t plane_index(KvPlane plane) {
  return 2 * static_cast<std::size_t>(plane.layer) + static_cast<std::size_t>(plane.k_or_v);
}

template <typename Visit>
void for_each_block(const KvPoolView& pool, std::span<const BlockIndex> table, KvPlane plane,
                    Tokens first, Tokens count, const Visit& visit) {
  const protocol::KvLayout& layout = pool.layout;
  const std::int64_t per_block = layout.block_tokens;
  const std::int64_t end = first.value() + count.value();
  CHECK(static_cast<std::int64_t>(table.size()) >=
        blocks_for(Tokens(end), Tokens(per_block)).value());
  std::byte* const base = pool.planes[plane_index(plane)];
  for (std::int64_t token = first.value(); token < end;) {
    const std::int64_t in_block = token % per_block;
    const std::int64_t n = std::min(per_block - in_block, end - token);
    const auto block = std::int64_t{table[static_cast<std::size_t>(token / per_block)].value()};
    visit(BlockPart{base + block * layout.block_plane().value(), in_block, n,
                    (token - first.value()) * layout.row().value()});
    token += n;
  }
}

}  // namespace

Stores stores_for(Bytes size) { return size > kCachedMax ? Stores::kAroundCache : Stores::kCached; }

void scatter_rows(const KvPoolView& pool, std::span<const BlockIndex> table, KvPlane plane,
                  Tokens first, std::span<const std::byte> rows, Stores stores, Bytes more) {
  const protocol::KvLayout& layout = pool.layout;
  const auto head_row = static_cast<std::size_t>(layout.head_row().value());
  const auto row = static_cast<std::size_t>(layout.row().value());
  CHECK(row > 0);
  CHECK(rows.size() % row == 0);
  const auto base = reinterpret_cast<std::uintptr_t>(pool.planes[plane_index(plane)]);
  // Around the cache only whole lines: a partial one would be read and merged in memory.
  const bool whole_lines = base % kLine == 0 && head_row % kLine == 0;
  const RowCopy copy = stores == Stores::kAroundCache && whole_lines ? streaming_row_copy(head_row)
                                                                     : cached_row_copy(head_row);
  RowCopyJob job{.head_stride = layout.block_tokens * head_row,
                 .heads = layout.kv_heads,
                 .head_row = head_row,
                 .ahead = more >= kPrefetch ? static_cast<std::size_t>(kPrefetch.value()) : 0};
  const Tokens count(static_cast<std::int64_t>(rows.size() / row));
  for_each_block(pool, table, plane, first, count, [&](const BlockPart& part) {
    job.to = part.block + static_cast<std::size_t>(part.token) * head_row;
    job.from = rows.data() + part.offset;
    job.tokens = static_cast<std::size_t>(part.count);
    copy(job);
  });
}

void scatter_layer(const KvPoolView& pool, std::span<const BlockIndex> table,
                   std::span<const std::byte> kv, Tokens tokens, int layer) {
  const protocol::KvLayout& layout = pool.layout;
  const auto size = static_cast<std::size_t>((layout.row() * tokens.value()).value());
  for (const int k_or_v : {0, 1}) {
    const auto at = static_cast<std::size_t>(layout.plane_offset(layer, k_or_v, tokens).value());
    scatter_rows(pool, table, {layer, k_or_v}, Tokens(0), kv.subspan(at, size), Stores::kCached,
                 Bytes(0));
  }
}

void gather_layer(const KvPoolView& pool, std::span<const BlockIndex> table,
                  std::span<std::byte> kv, Tokens tokens, int layer) {
  const protocol::KvLayout& layout = pool.layout;
  const auto head_row = static_cast<std::size_t>(layout.head_row().value());
  const auto row = static_cast<std::size_t>(layout.row().value());
  for (const int k_or_v : {0, 1}) {
    std::byte* const to =
        kv.subspan(static_cast<std::size_t>(layout.plane_offset(layer, k_or_v, tokens).value()))
            .data();
    for_each_block(pool, table, {layer, k_or_v}, Tokens(0), tokens, [&](const BlockPart& part) {
      for (std::size_t token = 0; token < static_cast<std::size_t>(part.count); ++token) {
        for (std::size_t head = 0; head < layout.kv_heads; ++head) {
          const std::size_t from =
              head * layout.block_tokens + static_cast<std::size_t>(part.token) + token;
          std::memcpy(to + part.offset + token * row + head * head_row,
                      part.block + from * head_row, head_row);
        }
      }
    });
  }
}

}  // namespace pd::transfer
