// UCX's status codes and log lines in our words. For .cc files that include UCX.
#pragma once

#include <string>

#include "base/result.h"

namespace pd::transfer {

// `status` is a ucs_status_t. A peer that is gone and a wire that fails are both kUnavailable.
Error ucx_error(const std::string& what, int status);

// UCX's log lines go to our log instead of standard output; its signal handlers, which it installs
// when the library is loaded, are taken out. Once per process; later calls do nothing.
void tame_ucx();

}  // namespace pd::transfer
