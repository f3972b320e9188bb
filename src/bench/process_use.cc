#include "bench/process_use.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>

namespace pd::bench {
namespace {

std::string read_text(int pid, std::string_view name) {
  std::ifstream file(fmt::format("/proc/{}/{}", pid, name));
  return {std::istreambuf_iterator<char>(file), {}};
}

std::optional<int> number_of(std::string_view text) {
  int number = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size()) return std::nullopt;
  return number;
}

std::unexpected<Error> missing(int pid) {
  return error(ErrorCode::kNotFound, fmt::format("there is no process {}", pid));
}

// The value of a line such as "Pss:    1234 kB".
std::optional<Bytes> kilobytes(std::string_view text, std::string_view name) {
  std::size_t at = text.find(fmt::format("\n{}:", name));
  if (at == std::string_view::npos) return std::nullopt;
  at = text.find_first_of("0123456789", at);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view digits = text.substr(at);
  Bytes::rep value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return Bytes(value * 1024);
}

}  // namespace

std::optional<ProcessStat> parse_process_stat(std::string_view text) {
  // The second field is the program's name in parentheses, which may hold anything.
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string_view::npos) return std::nullopt;
  std::istringstream fields{std::string(text.substr(name_end + 1))};
  std::string skipped;
  ProcessStat stat;
  fields >> skipped >> stat.parent;
  for (int i = 5; i < 14; ++i) fields >> skipped;
  for (int i = 14; i < 18; ++i) {  // user, system, and the same of its children
    std::int64_t ticks = 0;
    if (!(fields >> ticks) || ticks < 0) return std::nullopt;
    stat.ticks += static_cast<std::uint64_t>(ticks);
  }
  return stat;
}

std::optional<ProcessMemory> parse_smaps_rollup(std::string_view text) {
  const auto rss = kilobytes(text, "Rss");
  const auto pss = kilobytes(text, "Pss");
  if (!rss || !pss) return std::nullopt;
  return ProcessMemory{*rss, *pss};
}

std::vector<int> process_tree(int pid) {
  std::multimap<int, int> children;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const auto process = number_of(entry.path().filename().native());
    if (!process) continue;
    if (const auto stat = parse_process_stat(read_text(*process, "stat")))
      children.emplace(stat->parent, *process);
  }
  std::vector<int> tree{pid};
  for (std::size_t i = 0; i < tree.size(); ++i) {
    const auto [begin, end] = children.equal_range(tree[i]);
    for (auto it = begin; it != end; ++it) tree.push_back(it->second);
  }
  return tree;
}

Result<double> process_cpu_seconds(int pid) {
  if (!parse_process_stat(read_text(pid, "stat"))) return missing(pid);
  std::uint64_t ticks = 0;
  for (const int process : process_tree(pid)) {
    if (const auto stat = parse_process_stat(read_text(process, "stat"))) ticks += stat->ticks;
  }
  return static_cast<double>(ticks) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

Result<ProcessMemory> process_memory(int pid) {
  if (!parse_smaps_rollup(read_text(pid, "smaps_rollup"))) return missing(pid);
  ProcessMemory sum{Bytes(0), Bytes(0)};
  for (const int process : process_tree(pid)) {
    const auto memory = parse_smaps_rollup(read_text(process, "smaps_rollup"));
    if (!memory) continue;
    sum.rss += memory->rss;
    sum.pss += memory->pss;
  }
  return sum;
}

}  // namespace pd::bench
