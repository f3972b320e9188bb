#include "protocol/kv_layout.h"

#include <cstddef>
#include <span>
#include <string>

#include "base/digest.h"
#include "protocol/wire.h"

namespace pd::protocol {

namespace {
// Changes whenever the order of a range's dimensions does: equal fields then mean other bytes.
constexpr std::uint32_t kOrderVersion = 1;
}  // namespace

std::uint64_t KvLayout::hash() const {
  // Written field by field: the struct's padding is not part of what two sides must agree on.
  std::string fields;
  WireWriter out(fields);
  out.number(kOrderVersion);
  out.number(static_cast<std::uint8_t>(dtype));
  out.number(layers);
  out.number(kv_heads);
  out.number(head_dim);
  out.number(block_tokens);
  out.number(weights_digest);
  return digest64(std::as_bytes(std::span(fields)));
}

}  // namespace pd::protocol
