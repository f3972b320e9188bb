#include <cstdlib>
#include <vector>

#include "transfer/range_pieces.h"
#include "transfer/range_reader.h"
#include "transfer/test_range.h"

// The bytes of a peer's range, header included: whatever they are, only the right ones are taken,
// and nothing is written outside of the blocks.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pd;
  using namespace pd::transfer;
  static const protocol::KvLayout layout{
      .layers = 2, .kv_heads = 1, .head_dim = 4, .block_tokens = 2, .weights_digest = 3};
  static const Tokens tokens(3);
  static const test::Range right(layout, tokens, 1);
  if (size < 1) return 0;
  // The input is what differs from the right range: so that the digests can be reached.
  std::vector<std::byte> bytes(right.bytes().begin(), right.bytes().end());
  bool same = true;
  for (std::size_t i = 1; i < size && i - 1 < bytes.size(); ++i) {
    bytes[i - 1] ^= static_cast<std::byte>(data[i]);
    same = same && data[i] == 0;
  }
  test::Pool pool(layout, tokens, 2);
  RangeReader reader(pool.view(), pool.table(), right.ticket());
  RangePieces pieces = RangePieces::contiguous(layout, tokens, Bytes(1 + data[0]), true);
  Status status;
  while (const auto piece = pieces.next()) {
    const auto part = std::span<const std::byte>(bytes).subspan(
        piece->offset, static_cast<std::size_t>(piece->size.value()));
    const auto header = static_cast<std::size_t>(piece->header.value());
    if (header > 0) status = piece->again ? reader.header_again(part) : reader.header(part);
    if (status && !piece->again) status = reader.feed(part.subspan(header));
    if (!status) break;
  }
  // Bytes of the header behind the digests are padding.
  const bool taken = status && reader.complete();
  if (same && !taken) std::abort();
  const std::size_t digested = bytes.size() - right.kv().size();
  for (std::size_t i = digested; taken && i < bytes.size(); ++i) {
    if (bytes[i] != right.bytes()[i]) std::abort();
  }
  return 0;
}
