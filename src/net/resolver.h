// Host names into addresses, off the loop's thread. Internal to net.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/event_loop.h"
#include "net/tcp_socket.h"

namespace pd::net {

// Calls `done` on the loop, always later. kUnavailable: the name has no address.
void resolve(EventLoop& loop, const std::string& host, std::uint16_t port,
             std::function<void(Result<std::vector<SocketAddress>>)> done);

}  // namespace pd::net
