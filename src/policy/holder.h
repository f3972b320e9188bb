// Who holds a slot, a block or a lease: one placement of a request on a worker.
#pragma once

#include <compare>
#include <cstdint>

#include "base/units.h"

namespace pd::policy {

struct Holder {
  RequestId request;
  std::uint32_t attempt = 0;
  constexpr auto operator<=>(const Holder&) const = default;
};

}  // namespace pd::policy
