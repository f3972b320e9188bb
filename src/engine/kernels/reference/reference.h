// The operators of kernels.h in plain C++: f32, one multiplication and one addition at a time, in
// the order that the contract names. Small sums that are not reductions over weights (mean square,
// exponentials) are taken in f64, so that their error does not add to that of the products.
#pragma once

#include "engine/kernels/kernels.h"

namespace pd::engine::reference {

void linear(const LinearArgs& args, std::int64_t tile_begin, std::int64_t tile_end);
void attention(const AttentionArgs& args);
void rms_norm(const float* x, const float* weight, float eps, std::int64_t size, float* out);
void rope(float* x, const float* cos, const float* sin, int head_dim, int heads);
void silu_mul(const float* gate, const float* up, std::int64_t size, float* out);
void add(const float* x, std::int64_t size, float* inout);
void embed(const Matrix& table, std::int64_t row, float* out);
void store_kv(const float* x, std::int64_t size, protocol::KvDType dtype, std::byte* out);
void to_bf16(const float* x, std::int64_t size, std::uint16_t* out);

// e^x in f64: relative error below 1e-14 for |x| <= 700, 0 below, infinity above. Ours, because
// libm's differs between machines.
double exponential(double x);

}  // namespace pd::engine::reference
