#include "engine/kernels/reference/reference.h"
#include "engine/kernels/tables.h"

namespace pd::engine {

constinit const Kernels kReferenceKernels{
    .name = "reference",
    .keeps_f32 = true,
    .multiplies_bf16 = false,
    .linear = reference::linear,
    .attention = reference::attention,
    .rms_norm = reference::rms_norm,
    .rope = reference::rope,
    .silu_mul = reference::silu_mul,
    .add = reference::add,
    .embed = reference::embed,
    .store_kv = reference::store_kv,
    .to_bf16 = reference::to_bf16,
};

}  // namespace pd::engine
