// The rounds of a load on one or several targets as a table: median and range over the rounds.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/load.h"
#include "bench/process_use.h"

namespace pd::bench {

struct Round {
  LoadResult load;
  // Of the target's process and its children.
  std::optional<double> cpu_seconds;
  std::optional<ProcessMemory> memory;  // after the round
};

struct TargetRounds {
  std::string name;
  std::vector<Round> rounds;
};

// One row per target and, with several, what each adds to the first, round by round.
std::string latency_table(const std::vector<TargetRounds>& targets);
std::string throughput_table(const std::vector<TargetRounds>& targets);
// CPU time, time to the last byte and memory of each, and by how much each is above the first,
// round by round.
std::string request_table(const std::vector<TargetRounds>& targets);

// How many requests failed, and how the first of them did; empty: none.
std::string failures(const std::vector<TargetRounds>& targets);

}  // namespace pd::bench
