// What this machine can do at most, measured in the same run as what is compared with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pd::engine::bench {

// Floating-point operations per second of one thread whose operands stay in registers, with the
// multiply-add that kernels of this name use for weights of this type. 0: not known for that name.
double register_peak(std::string_view kernels, bool bf16_weights);

// Bytes per second that `threads` threads together read from memory, past every cache.
double read_bandwidth(int threads);

// Operations per second of oneDNN's bf16 matrix product (weights packed beforehand, f32 result) on
// the calling thread; 0 where this build does not have oneDNN.
double onednn_rate(std::int64_t rows, std::int64_t columns, std::int64_t depth);

// Loops of the instruction sets; each runs `rounds` times 24 independent chains and returns a value
// that depends on them.
float f32_chains_avx2(std::int64_t rounds);
float f32_chains_avx512(std::int64_t rounds);
float bf16_chains_avx512(std::int64_t rounds);

// Sum over kReadBytes bytes, in eight streams side by side: one alone is bound by its latency.
inline constexpr std::size_t kReadBytes = std::size_t{8} * 18 * 1024;
std::int64_t read_avx2(const std::byte* from);

}  // namespace pd::engine::bench
