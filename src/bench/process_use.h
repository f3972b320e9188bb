// What other processes have used: CPU time and memory, a process taken together with its children,
// as nginx's master is with its workers.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"

namespace pd::bench {

// User and system time so far, in seconds, of a process, its descendants, and those of them that
// have ended and were waited for; resolution: a clock tick, 10 ms. kNotFound: there is no such
// process.
Result<double> process_cpu_seconds(int pid);

struct ProcessMemory {
  Bytes rss;  // resident; what processes share counts in each
  Bytes pss;  // the same with shared pages divided among those that share them
};
// Of a process and its descendants. kNotFound: there is no such process, or it is another user's.
Result<ProcessMemory> process_memory(int pid);

// The process and its descendants, itself first; those that end meanwhile may be missing.
std::vector<int> process_tree(int pid);

struct ProcessStat {
  int parent = 0;
  std::uint64_t ticks = 0;  // its own CPU time and that of the ended children it waited for
};
// From the text of /proc/PID/stat.
std::optional<ProcessStat> parse_process_stat(std::string_view text);
// From the text of /proc/PID/smaps_rollup.
std::optional<ProcessMemory> parse_smaps_rollup(std::string_view text);

}  // namespace pd::bench
