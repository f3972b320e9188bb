#include "net/resolver.h"

#include <fmt/format.h>

#include <boost/asio/ip/tcp.hpp>
#include <cstring>
#include <memory>

#include "net/event_loop_impl.h"

namespace pd::net {
namespace asio = boost::asio;

void resolve(EventLoop& loop, const std::string& host, std::uint16_t port,
             std::function<void(Result<std::vector<SocketAddress>>)> done) {
  auto resolver = std::make_shared<asio::ip::tcp::resolver>(loop.impl().context);
  resolver->async_resolve(
      host, std::to_string(port),
      [resolver, host, done = std::move(done)](const boost::system::error_code& failure,
                                               const asio::ip::tcp::resolver::results_type& found) {
        std::vector<SocketAddress> addresses;
        if (!failure) {
          for (const auto& entry : found) {
            const auto endpoint = entry.endpoint();
            SocketAddress& address = addresses.emplace_back();
            address.length = static_cast<socklen_t>(endpoint.size());
            std::memcpy(&address.storage, endpoint.data(), endpoint.size());
          }
        }
        if (addresses.empty()) {
          done(error(ErrorCode::kUnavailable,
                     fmt::format("host '{}' has no address: {}", host, failure.message())));
        } else {
          done(std::move(addresses));
        }
      });
}

}  // namespace pd::net
