#include "bench/process_cpu.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

namespace pd::bench {

Result<std::uint64_t> cpu_ticks(std::string_view stat) {
  // The second field is the program's name in parentheses, which may hold anything.
  const std::size_t name_end = stat.rfind(')');
  if (name_end != std::string_view::npos) {
    std::istringstream fields{std::string(stat.substr(name_end + 1))};
    std::string skipped;
    for (int i = 3; i < 14; ++i) fields >> skipped;
    std::uint64_t user = 0;
    std::uint64_t system = 0;
    if (fields >> user >> system) return user + system;
  }
  return error(ErrorCode::kCorrupt, "not the text of /proc/PID/stat");
}

Result<double> process_cpu_seconds(int pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (text.empty()) return error(ErrorCode::kNotFound, fmt::format("there is no process {}", pid));
  const auto ticks = cpu_ticks(text);
  if (!ticks) return std::unexpected(ticks.error());
  return static_cast<double>(*ticks) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace pd::bench
