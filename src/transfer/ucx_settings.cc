#include "transfer/ucx_settings.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <system_error>

namespace pd::transfer {

namespace {

// The interface's IPv4 address, or else an IPv6 address that is valid beyond its link.
Result<SocketAddress> address_of(const std::string& interface) {
  ifaddrs* raw = nullptr;
  if (::getifaddrs(&raw) != 0) {
    return error(ErrorCode::kInternal, fmt::format("getifaddrs: {}", std::strerror(errno)));
  }
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> list(raw, &::freeifaddrs);
  std::set<std::string> names;
  std::optional<SocketAddress> v6;
  for (const ifaddrs* at = raw; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || (at->ifa_flags & IFF_UP) == 0) continue;
    SocketAddress address;
    if (at->ifa_addr->sa_family == AF_INET) {
      const auto* in = reinterpret_cast<const sockaddr_in*>(at->ifa_addr);
      std::memcpy(address.ip.data(), &in->sin_addr, sizeof(in->sin_addr));
    } else if (at->ifa_addr->sa_family == AF_INET6) {
      const auto* in = reinterpret_cast<const sockaddr_in6*>(at->ifa_addr);
      if (IN6_IS_ADDR_LINKLOCAL(&in->sin6_addr)) continue;
      std::memcpy(address.ip.data(), &in->sin6_addr, sizeof(in->sin6_addr));
      address.v6 = true;
    } else {
      continue;
    }
    names.insert(at->ifa_name);
    if (interface != at->ifa_name) continue;
    if (!address.v6) return address;
    if (!v6) v6 = address;
  }
  if (v6) return *v6;
  return error(ErrorCode::kInvalidArgument,
               fmt::format("KV transfer: interface '{}' has no IP address here; these have one: {}",
                           interface, fmt::join(names, ", ")));
}

// RDMA devices behind a network interface ("mlx5_0:1"), empty on most machines.
std::vector<std::string> rdma_devices_of(const std::string& interface) {
  std::vector<std::string> devices;
  std::error_code failure;
  const std::filesystem::path folder("/sys/class/net/" + interface + "/device/infiniband");
  for (const auto& entry : std::filesystem::directory_iterator(folder, failure)) {
    devices.push_back(entry.path().filename().string() + ":1");
  }
  return devices;
}

}  // namespace

socklen_t to_sockaddr(const SocketAddress& address, sockaddr_storage& out) {
  out = {};
  if (address.v6) {
    auto* in = reinterpret_cast<sockaddr_in6*>(&out);
    in->sin6_family = AF_INET6;
    in->sin6_port = htons(address.port);
    std::memcpy(&in->sin6_addr, address.ip.data(), sizeof(in->sin6_addr));
    return sizeof(*in);
  }
  auto* in = reinterpret_cast<sockaddr_in*>(&out);
  in->sin_family = AF_INET;
  in->sin_port = htons(address.port);
  std::memcpy(&in->sin_addr, address.ip.data(), sizeof(in->sin_addr));
  return sizeof(*in);
}

Result<UcxSettings> make_ucx_settings(const UcxOptions& options) {
  const std::string interface = options.interface.empty() ? "lo" : options.interface;
  // "all" would be every interface of the host, and a comma another one (G7).
  if (interface.find_first_of(",:/*^ ") != std::string::npos || interface == "all") {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("KV transfer: '{}' is not the name of one interface", interface));
  }
  Result<SocketAddress> address = address_of(interface);
  if (!address) return std::unexpected(address.error());

  UcxSettings settings{.listen_on = *address};
  std::string devices = interface;
  // These carry messages; KV in shared memory is read in place. tcp must be among them, as UCX
  // takes the listener's device from it. Only posix of the shared-memory kinds: its segments have
  // no name once they are open, so a killed process leaves nothing behind.
  std::string transports = "posix,self,tcp";
  if (options.wires == Wires::kTcp) transports = "tcp,self";
  if (options.wires == Wires::kAuto) {
    for (const std::string& device : rdma_devices_of(interface)) {
      settings.network = Transport::kRdma;
      devices += "," + device;
    }
    if (settings.network == Transport::kRdma) transports += ",rc,ud";
  }
  settings.values = {
      {"TLS", transports},
      {"NET_DEVICES", devices},
      {"SOCKADDR_TLS_PRIORITY", "tcp"},
      // Defaults (8 KiB segments) give a fifth of the rate on loopback.
      {"TX_SEG_SIZE", "256k"},
      {"RX_SEG_SIZE", "256k"},
      {"MAX_IOV", "64"},
      // connect() must not block the transfer thread when a host does not answer.
      {"CONN_NB", "y"},
  };
  return settings;
}

}  // namespace pd::transfer
