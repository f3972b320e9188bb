// CHECK(condition): a broken invariant of ours ends the process, in release too, one condition
// each. Never reachable from outside input. DCHECK is for kernels and disappears in release.
#pragma once

namespace pd::internal {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}

#define CHECK(condition)                             \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::pd::internal::check_failed(#condition, __FILE__, __LINE__))

#ifdef NDEBUG
#define DCHECK(condition) static_cast<void>(sizeof(static_cast<bool>(condition)))
#else
#define DCHECK(condition) CHECK(condition)
#endif
