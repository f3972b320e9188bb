// Open descriptors from one process of this machine to the next, over a Unix socket: how a new
// process takes the listening sockets of the one it replaces, so that no connection is refused.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "net/event_loop.h"

namespace pd::net {

struct Parcel {
  std::string note;                   // at most 4 KiB, for the two processes to agree on
  std::vector<UniqueFd> descriptors;  // 1 to 200
};

// The old process's side. Loop thread only.
class DescriptorOffer {
 public:
  // Listens at `path`, which only this user can open; a socket there that nobody answers for is
  // replaced. Who connects gets what `pack` gives; when it says that it serves, `taken` runs, once,
  // and nothing is offered any more. `loop` outlives it.
  static Result<std::unique_ptr<DescriptorOffer>> create(EventLoop& loop,
                                                         std::filesystem::path path,
                                                         std::function<Result<Parcel>()> pack,
                                                         std::function<void()> taken);
  ~DescriptorOffer();  // the path goes with it, unless it is the next one's by now

 private:
  struct Impl;
  explicit DescriptorOffer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The new process's side; blocks for at most 5 s each.
class DescriptorTake {
 public:
  // nullopt: nobody offers anything at `path`.
  static Result<std::optional<DescriptorTake>> from(const std::filesystem::path& path);
  Parcel& parcel() { return parcel_; }
  // We serve: the other may stop. Without it, it goes on as if nothing had been.
  Status confirm();

 private:
  DescriptorTake(UniqueFd socket, Parcel parcel)
      : socket_(std::move(socket)), parcel_(std::move(parcel)) {}
  UniqueFd socket_;
  Parcel parcel_;
};

}  // namespace pd::net
