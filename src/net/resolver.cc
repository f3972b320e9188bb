#include "net/resolver.h"

#include <fmt/format.h>
#include <netdb.h>

#include <cstring>
#include <memory>

#include "net/event_loop_impl.h"

namespace pd::net {
namespace {

constexpr std::size_t kNamesWaitingMax = 4096;

struct AddressListFree {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};

Result<std::vector<SocketAddress>> addresses_of(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failure = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  const std::unique_ptr<addrinfo, AddressListFree> list(found);
  std::vector<SocketAddress> out;
  for (const addrinfo* entry = found; failure == 0 && entry != nullptr; entry = entry->ai_next) {
    SocketAddress& address = out.emplace_back();
    address.length = entry->ai_addrlen;
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
  }
  if (!out.empty()) return out;
  return error(ErrorCode::kUnavailable, fmt::format("host '{}' has no address: {}", host,
                                                    failure != 0 ? ::gai_strerror(failure) : ""));
}

}  // namespace

void resolve(EventLoop& loop, const std::string& host, std::uint16_t port,
             std::function<void(Result<std::vector<SocketAddress>>)> done) {
  EventLoop::Impl& impl = loop.impl();
  if (!impl.names) {
    impl.names = std::make_unique<BoundedQueue<std::function<void()>>>(kNamesWaitingMax);
    impl.resolver = std::jthread([&names = *impl.names] {
      while (const auto name = names.pop()) (*name)();
    });
  }
  // The callback stays on the loop's thread, whose objects it holds.
  const auto waiting =
      std::make_shared<std::function<void(Result<std::vector<SocketAddress>>)>>(std::move(done));
  const bool queued = impl.names->try_push([&loop, host, port, waiting] {
    loop.post(
        [waiting, found = addresses_of(host, port)]() mutable { (*waiting)(std::move(found)); });
  });
  if (queued) return;
  loop.post([waiting] {
    (*waiting)(error(ErrorCode::kNoCapacity, "too many host names are being resolved"));
  });
}

}  // namespace pd::net
