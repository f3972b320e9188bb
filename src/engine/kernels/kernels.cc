#include "engine/kernels/kernels.h"

#include <fmt/format.h>

#include <array>

#include "engine/kernels/tables.h"

namespace pd::engine {
namespace {

// What the CPU has and the operating system saves on a context switch (the builtin asks both).
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

struct Candidate {
  const Kernels* kernels;
  bool available;
};

// Slowest first.
std::array<Candidate, 4> candidates() {
  return {{{&kReferenceKernels, true},
           {&kAvx2Kernels, has_avx2()},
           {&kAvx512Kernels, has_avx512()},
           {&kAvx512Bf16Kernels, has_avx512_bf16()}}};
}

}  // namespace

std::string available_kernels() {
  std::string out;
  for (const Candidate& candidate : candidates()) {
    if (!candidate.available) continue;
    if (!out.empty()) out += ", ";
    out += candidate.kernels->name;
  }
  return out;
}

Result<const Kernels*> select_kernels(std::string_view name) {
  const auto all = candidates();
  const Kernels* best = nullptr;
  for (const Candidate& candidate : all) {
    if (candidate.available) best = candidate.kernels;
    if (candidate.kernels->name != name) continue;
    if (candidate.available) return candidate.kernels;
    return error(ErrorCode::kUnsupported,
                 fmt::format("kernels \"{}\": this CPU does not have the instructions; it has {}",
                             name, available_kernels()));
  }
  if (name == "auto") return best;
  return error(ErrorCode::kInvalidArgument,
               fmt::format("kernels \"{}\": no such set; choose auto or one of {}", name,
                           available_kernels()));
}

}  // namespace pd::engine
