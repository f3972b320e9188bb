// From our options to UCX's configuration names, and to the listener's IP address.
#pragma once

#include <sys/socket.h>

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "transfer/kv_transport.h"
#include "transfer/ucx_wire.h"

namespace pd::transfer {

struct UcxSettings {
  std::vector<std::pair<const char*, std::string>> values;  // for ucp_config_modify, in order
  SocketAddress listen_on;                                  // port 0: the kernel chooses
  Transport network = Transport::kTcp;
};

// kInvalidArgument: the interface does not exist or has no address; the message lists those that
// have one.
Result<UcxSettings> make_ucx_settings(const UcxOptions& options);

// Fills `out`; returns the length that is used.
socklen_t to_sockaddr(const SocketAddress& address, sockaddr_storage& out);

}  // namespace pd::transfer
