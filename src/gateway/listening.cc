#include "gateway/listening.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.h"

namespace pd::gateway {
namespace {

// Of the note that goes with the sockets. A process that writes another cannot be replaced by this
// one while it serves.
constexpr int kFormat = 1;

std::string address_text(const std::string& host, std::uint16_t port) {
  return fmt::format("{}:{}", host, port);
}

bool asks_for(const net::HttpServerOptions& where, const std::string& address) {
  if (where.port != 0) return address == address_text(where.host, where.port);
  return address.starts_with(where.host + ":");
}

// The first `count` of what is left.
std::vector<UniqueFd> take_first(std::vector<UniqueFd>& from, std::size_t count) {
  const auto end = from.begin() + static_cast<std::ptrdiff_t>(std::min(count, from.size()));
  std::vector<UniqueFd> out(std::make_move_iterator(from.begin()), std::make_move_iterator(end));
  from.erase(from.begin(), end);
  return out;
}

}  // namespace

Result<Listening> Listening::create(const GatewayOptions& options) {
  Listening out;
  if (!options.handover_socket.empty()) {
    if (Status taken = out.take_over(options); !taken) return std::unexpected(taken.error());
  }
  if (out.clients_.sockets.empty()) {
    if (Status opened = open(out.clients_, options.http, options.loops); !opened)
      return std::unexpected(opened.error());
  }
  if (options.admin && out.operators_.sockets.empty()) {
    if (Status opened = open(out.operators_, options.admin->http, 1); !opened)
      return std::unexpected(opened.error());
  }
  return out;
}

Status Listening::open(Place& place, const net::HttpServerOptions& where, int sockets) {
  auto opened = net::open_listeners(where.host, where.port, sockets);
  if (!opened) return std::unexpected(opened.error());
  const auto port = net::listening_port(opened->front());
  if (!port) return std::unexpected(port.error());
  place.address = address_text(where.host, *port);
  place.sockets = std::move(*opened);
  return {};
}

Status Listening::take_over(const GatewayOptions& options) {
  auto taken = net::DescriptorTake::from(options.handover_socket);
  if (!taken)
    return error(taken.error().code,
                 fmt::format("[gateway] handover_socket: {}", taken.error().message));
  if (!*taken) return {};
  net::Parcel& parcel = (*taken)->parcel();
  const auto note = nlohmann::json::parse(parcel.note, nullptr, /*allow_exceptions=*/false);
  const auto sockets_at = [&](const char* name) {
    return note[name].is_object() ? note[name].value("sockets", std::size_t{0}) : 0;
  };
  if (!note.is_object() || note.value("format", 0) != kFormat) {
    return error(
        ErrorCode::kUnavailable,
        fmt::format("[gateway] handover_socket {}: the process there hands over in another "
                    "format; stop it before this one starts",
                    options.handover_socket));
  }
  const auto take = [&](Place& place, const char* name, const net::HttpServerOptions* where) {
    if (!note.contains(name)) return;
    auto sockets = take_first(parcel.descriptors, sockets_at(name));
    const std::string address = note[name].value("address", "");
    if (where == nullptr || !asks_for(*where, address)) return;  // closed: ours is another place
    place = {address, std::move(sockets)};
    log::info("{} taken over from the process before", address);
  };
  take(clients_, "clients", &options.http);
  take(operators_, "operators", options.admin ? &options.admin->http : nullptr);
  parcel.descriptors.clear();
  taken_ = std::move(**taken);
  return {};
}

Result<net::Parcel> Listening::pack() const {
  net::Parcel parcel;
  nlohmann::json note{{"format", kFormat}};
  const auto add = [&](const char* name, const Place& place) -> Status {
    if (place.sockets.empty()) return {};
    auto copies = net::duplicate(place.sockets);
    if (!copies) return std::unexpected(copies.error());
    note[name] = {{"address", place.address}, {"sockets", copies->size()}};
    std::ranges::move(*copies, std::back_inserter(parcel.descriptors));
    return {};
  };
  if (Status added = add("clients", clients_); !added) return std::unexpected(added.error());
  if (Status added = add("operators", operators_); !added) return std::unexpected(added.error());
  parcel.note = note.dump();
  return parcel;
}

void Listening::close() {
  clients_.sockets.clear();
  operators_.sockets.clear();
}

}  // namespace pd::gateway
