// Who a request belongs to, for fairness and limits: the gateway numbers the tenants that its keys
// name. 0: nobody in particular (no keys are asked for).
#pragma once

#include "base/units.h"

namespace pd::policy {

using TenantId = Id<struct TenantIdTag, std::uint32_t>;

}  // namespace pd::policy
