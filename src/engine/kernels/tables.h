// The tables that select_kernels() chooses from. Calling one on a CPU that lacks its instructions
// ends the process with SIGILL.
#pragma once

#include "engine/kernels/kernels.h"

namespace pd::engine {

extern const Kernels kReferenceKernels;

}  // namespace pd::engine
