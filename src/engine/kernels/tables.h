// The tables that select_kernels() chooses from. Calling one on a CPU that lacks its instructions
// ends the process with SIGILL.
#pragma once

#include "engine/kernels/kernels.h"

namespace pd::engine {

extern const Kernels kReferenceKernels;
extern const Kernels kAvx2Kernels;        // AVX2, FMA
extern const Kernels kAvx512Kernels;      // AVX-512 F, BW, DQ, VL
extern const Kernels kAvx512Bf16Kernels;  // the same and AVX-512 BF16

}  // namespace pd::engine
