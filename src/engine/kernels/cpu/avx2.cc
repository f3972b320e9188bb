// Compiled with -mavx2 -mfma; see kernels.h on what this file must not do.
#include "engine/kernels/cpu/simd_avx2.h"
// After the instructions that they are written over:
#include "engine/kernels/cpu/attention.h"
#include "engine/kernels/cpu/elementwise.h"
#include "engine/kernels/cpu/linear.h"
#include "engine/kernels/reference/reference.h"
#include "engine/kernels/tables.h"

namespace pd::engine {

// Operators without a reduction are memory-bound: the reference is as good.
constinit const Kernels kAvx2Kernels{
    .name = "avx2",
    .keeps_f32 = false,
    .multiplies_bf16 = false,
    .linear = linear<Avx2>,
    .attention = attention<Avx2>,
    .rms_norm = rms_norm<Avx2>,
    .rope = reference::rope,
    .silu_mul = silu_mul<Avx2>,
    .add = reference::add,
    .embed = reference::embed,
    .store_kv = reference::store_kv,
    .to_bf16 = reference::to_bf16,
};

}  // namespace pd::engine
