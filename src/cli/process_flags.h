// What the processes of a cluster have in common: they report readiness through a descriptor, end
// with their lifeline, and stop in order on SIGTERM.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "net/event_loop.h"
#include "net/fd_watch.h"

namespace pd::cli {

struct ProcessFlags {
  std::optional<int> ready_fd;  // the bound port is written there as a line
  std::optional<int> lifeline;  // its end of file ends this process
  void add_to(CLI::App& app);
};

// Writes the ports, the main one first, and closes the descriptor.
void announce(const ProcessFlags& flags, const std::vector<std::uint16_t>& ports);

// Calls `lost` once when the other end of the lifeline is closed, however that happens. Keep the
// watch.
net::FdWatch watch_lifeline(net::EventLoop& loop, const ProcessFlags& flags,
                            std::function<void()> lost);

}  // namespace pd::cli
