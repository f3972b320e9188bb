#include "net/resolver.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "net/event_loop_impl.h"

namespace pd::net {
namespace {

constexpr std::size_t kNamesWaitingMax = 4096;

Result<std::vector<SocketAddress>> named_addresses(const std::string& host, std::uint16_t port) {
  auto found = addresses_of(host, port);
  if (found) return found;
  return error(ErrorCode::kUnavailable,
               fmt::format("host '{}' has no address: {}", host, found.error().message));
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
        [waiting, found = named_addresses(host, port)]() mutable { (*waiting)(std::move(found)); });
  });
  if (queued) return;
  loop.post([waiting] {
    (*waiting)(error(ErrorCode::kNoCapacity, "too many host names are being resolved"));
  });
}

}  // namespace pd::net
