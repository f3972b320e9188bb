#include "base/machine_memory.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

namespace pd {
namespace {

// The number after `label` at the start of a line; nullopt: no such file, line or number ("max").
std::optional<std::int64_t> number_in(const std::filesystem::path& path, std::string_view label) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(label)) continue;
    std::istringstream rest(line.substr(label.size()));
    std::int64_t value = 0;
    if (rest >> value) return value;
  }
  return std::nullopt;
}

}  // namespace

std::optional<Bytes> available_memory(const std::filesystem::path& root) {
  std::optional<std::int64_t> available;
  if (const auto kib = number_in(root / "proc/meminfo", "MemAvailable:")) available = *kib * 1024;
  const std::filesystem::path group = root / "sys/fs/cgroup";
  const auto limit = number_in(group / "memory.max", "");
  const auto used = number_in(group / "memory.current", "");
  if (limit && used) {
    // Cached files are charged to the group, and given up when memory is wanted.
    const std::int64_t cached = number_in(group / "memory.stat", "inactive_file ").value_or(0);
    const std::int64_t left =
        std::max<std::int64_t>(0, *limit - std::max<std::int64_t>(0, *used - cached));
    available = std::min(available.value_or(left), left);
  }
  if (!available) return std::nullopt;
  return Bytes(*available);
}

}  // namespace pd
