// CPU time of another process.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace pd::bench {

// User and system time of all its threads so far, in seconds; resolution: a clock tick, 10 ms.
// kNotFound: there is no such process.
Result<double> process_cpu_seconds(int pid);

// The same from the text of /proc/PID/stat, in clock ticks.
Result<std::uint64_t> cpu_ticks(std::string_view stat);

}  // namespace pd::bench
