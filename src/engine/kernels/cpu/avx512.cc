// Compiled with -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma; see kernels.h on what this file
// must not do.
#include "engine/kernels/cpu/simd_avx512.h"
// After the instructions that they are written over:
#include "engine/kernels/cpu/attention.h"
#include "engine/kernels/cpu/elementwise.h"
#include "engine/kernels/cpu/linear.h"
#include "engine/kernels/reference/reference.h"
#include "engine/kernels/tables.h"

namespace pd::engine {

constinit const Kernels kAvx512Kernels{
    .name = "avx512",
    .keeps_f32 = false,
    .multiplies_bf16 = false,
    .linear = linear<Avx512>,
    .attention = attention<Avx512>,
    .rms_norm = rms_norm<Avx512>,
    .rope = reference::rope,
    .silu_mul = silu_mul<Avx512>,
    .add = reference::add,
    .embed = reference::embed,
    .store_kv = reference::store_kv,
    .to_bf16 = reference::to_bf16,
};

}  // namespace pd::engine
