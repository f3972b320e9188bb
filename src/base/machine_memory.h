// How much memory this process could still use. Linux: the host's estimate and its control group's
// limit, whichever is less.
#pragma once

#include <filesystem>
#include <optional>

#include "base/units.h"

namespace pd {

// nullopt: neither says. Reads /proc and /sys below `root`; any thread.
std::optional<Bytes> available_memory(const std::filesystem::path& root = "/");

}  // namespace pd
