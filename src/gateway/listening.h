// The sockets a gateway listens on: opened by it, or taken over from the process that it replaces,
// and handed on to the one that will replace it. A connection that comes while one follows the
// other waits in a socket that both have; none is refused.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "gateway/gateway_options.h"
#include "net/descriptor_handover.h"

namespace pd::gateway {

class Listening {
 public:
  // What the process at options.handover_socket offers, if it listens where the options say; what
  // it does not offer is opened.
  static Result<Listening> create(const GatewayOptions& options);

  // Descriptors of their own for a server; empty: no operator's port.
  Result<std::vector<UniqueFd>> for_clients() const { return net::duplicate(clients_.sockets); }
  Result<std::vector<UniqueFd>> for_operators() const { return net::duplicate(operators_.sockets); }

  bool replaces_another() const { return taken_.has_value(); }
  // To the one before: we serve, you may end.
  Status confirm() { return taken_->confirm(); }
  // For the one after.
  Result<net::Parcel> pack() const;
  void close();

 private:
  struct Place {
    std::string address;  // host:port
    std::vector<UniqueFd> sockets;
  };
  Listening() = default;
  Status take_over(const GatewayOptions& options);
  static Status open(Place& place, const net::HttpServerOptions& where, int sockets);

  Place clients_, operators_;
  std::optional<net::DescriptorTake> taken_;
};

}  // namespace pd::gateway
