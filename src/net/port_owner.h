// Which process listens on a TCP port of this machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace pd::net {

// "process 4711 (python3 -m http.server)"; nullopt where the system does not tell (another user's
// process, another network namespace).
std::optional<std::string> describe_port_owner(std::uint16_t port);

}  // namespace pd::net
