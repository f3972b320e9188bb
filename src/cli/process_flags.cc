#include "cli/process_flags.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <utility>

namespace pd::cli {

void ProcessFlags::add_to(CLI::App& app) {
  app.add_option("--ready-fd", ready_fd, "descriptor to which the bound port is written")
      ->group("");
  app.add_option("--lifeline", lifeline, "descriptor whose end of file ends this process")
      ->group("");
}

void announce(const ProcessFlags& flags, const std::vector<std::uint16_t>& ports) {
  if (!flags.ready_fd) return;
  const std::string line = fmt::format("{}\n", fmt::join(ports, " "));
  (void)!::write(*flags.ready_fd, line.data(), line.size());
  ::close(*flags.ready_fd);
}

net::FdWatch watch_lifeline(net::EventLoop& loop, const ProcessFlags& flags,
                            std::function<void()> lost) {
  if (!flags.lifeline) return {};
  auto watch = net::FdWatch::create(loop, *flags.lifeline, {std::move(lost), nullptr, nullptr});
  if (!watch) return {};
  watch->arm_readable();  // nobody ever writes: readable means the end
  return std::move(*watch);
}

}  // namespace pd::cli
