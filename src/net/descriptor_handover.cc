#include "net/descriptor_handover.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "net/fd_watch.h"

namespace pd::net {
namespace {

constexpr std::size_t kNoteMax = 4096;
constexpr std::size_t kDescriptorsMax = 200;  // Linux passes 253 in one message
constexpr char kServing = 'S';
constexpr timeval kPatience{.tv_sec = 5, .tv_usec = 0};

std::unexpected<Error> failed(std::string_view what, const std::filesystem::path& path,
                              std::string_view why) {
  return error(ErrorCode::kUnavailable, fmt::format("{} {}: {}", what, path.string(), why));
}

Result<sockaddr_un> address_of(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string& text = path.native();
  if (text.empty() || text.size() >= sizeof address.sun_path) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("'{}' is no path for a socket: it must have 1 to {} characters", text,
                             sizeof address.sun_path - 1));
  }
  text.copy(address.sun_path, text.size());
  return address;
}

const sockaddr* raw(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

bool same_user(int socket) {
  ucred peer{};
  socklen_t length = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
         (peer.uid == ::geteuid() || peer.uid == 0);
}

bool send_parcel(int socket, const Parcel& parcel) {
  std::array<char, CMSG_SPACE(kDescriptorsMax * sizeof(int))> control{};
  std::string note = parcel.note;
  iovec body{.iov_base = note.data(), .iov_len = note.size()};
  msghdr message{};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = CMSG_SPACE(parcel.descriptors.size() * sizeof(int));
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(parcel.descriptors.size() * sizeof(int));
  unsigned char* out = CMSG_DATA(header);
  for (const UniqueFd& fd : parcel.descriptors) {
    const int number = fd.get();
    std::memcpy(out, &number, sizeof number);
    out += sizeof number;
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(note.size());
}

std::optional<Parcel> receive_parcel(int socket) {
  std::array<char, CMSG_SPACE(kDescriptorsMax * sizeof(int))> control{};
  std::array<char, kNoteMax> note{};
  iovec body{.iov_base = note.data(), .iov_len = note.size()};
  msghdr message{};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (got <= 0) return std::nullopt;
  Parcel out{std::string(note.data(), static_cast<std::size_t>(got)), {}};
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(header) + i * sizeof number, sizeof number);
      out.descriptors.emplace_back(number);
    }
  }
  const bool whole = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
  return whole && !out.descriptors.empty() ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace

// --- offering ------------------------------------------------------------------------------------

struct DescriptorOffer::Impl {
  Impl(EventLoop& the_loop, std::filesystem::path the_path,
       std::function<Result<Parcel>()> the_pack, std::function<void()> the_taken)
      : loop(the_loop),
        path(std::move(the_path)),
        pack(std::move(the_pack)),
        taken(std::move(the_taken)) {}

  Status listen();
  void on_connection();
  void on_word();
  bool path_is_ours() const;

  EventLoop& loop;
  std::filesystem::path path;
  std::function<Result<Parcel>()> pack;
  std::function<void()> taken;
  UniqueFd listener, taker;  // one taker at a time
  FdWatch listener_watch, taker_watch;
  ino_t inode = 0;  // of the path, as we made it
};

Status DescriptorOffer::Impl::listen() {
  const auto address = address_of(path);
  if (!address) return std::unexpected(address.error());
  struct stat there{};
  if (::lstat(path.c_str(), &there) == 0) {
    if (!S_ISSOCK(there.st_mode)) return failed("cannot listen on", path, "a file is in the way");
    ::unlink(path.c_str());
  }
  listener.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  // Between bind() and listen() nobody can connect: the mode is in force before anybody could.
  if (!listener || ::bind(listener.get(), raw(*address), sizeof *address) != 0 ||
      ::chmod(path.c_str(), S_IRUSR | S_IWUSR) != 0 || ::listen(listener.get(), 4) != 0 ||
      ::lstat(path.c_str(), &there) != 0) {
    return failed("cannot listen on", path, std::strerror(errno));
  }
  inode = there.st_ino;
  auto watch = FdWatch::create(loop, listener.get(), {.on_readable = [this] { on_connection(); }});
  if (!watch) return std::unexpected(watch.error());
  listener_watch = std::move(*watch);
  listener_watch.arm_readable();
  return {};
}

void DescriptorOffer::Impl::on_connection() {
  taker_watch = FdWatch();
  taker.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!taker) return listener_watch.arm_readable();
  const auto parcel = pack();
  auto watch = FdWatch::create(loop, taker.get(), {.on_readable = [this] { on_word(); }});
  if (!same_user(taker.get()) || !parcel || !watch || !send_parcel(taker.get(), *parcel)) {
    log::error("{}: cannot hand over: {}", path.string(),
               parcel ? "another user asks, or it has gone" : parcel.error().message);
    taker.reset();
    return listener_watch.arm_readable();
  }
  taker_watch = std::move(*watch);
  taker_watch.arm_readable();
}

// The taker serves, or it has gone: then the next one may come.
void DescriptorOffer::Impl::on_word() {
  char word = 0;
  const ssize_t got = ::recv(taker.get(), &word, 1, 0);
  // A watch may wake for nothing: no word is not the taker's end.
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return taker_watch.arm_readable();
  const bool serves = got == 1 && word == kServing;
  taker_watch = FdWatch();
  taker.reset();
  if (!serves) return listener_watch.arm_readable();
  listener_watch = FdWatch();
  listener.reset();
  taken();
}

bool DescriptorOffer::Impl::path_is_ours() const {
  struct stat there{};
  return inode != 0 && ::lstat(path.c_str(), &there) == 0 && there.st_ino == inode;
}

Result<std::unique_ptr<DescriptorOffer>> DescriptorOffer::create(
    EventLoop& loop, std::filesystem::path path, std::function<Result<Parcel>()> pack,
    std::function<void()> taken) {
  auto impl = std::make_unique<Impl>(loop, std::move(path), std::move(pack), std::move(taken));
  if (Status listening = impl->listen(); !listening) return std::unexpected(listening.error());
  return std::unique_ptr<DescriptorOffer>(new DescriptorOffer(std::move(impl)));
}

DescriptorOffer::DescriptorOffer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

DescriptorOffer::~DescriptorOffer() {
  // While we listen nobody else can have made the path anew but by removing ours.
  if (impl_->listener && impl_->path_is_ours()) ::unlink(impl_->path.c_str());
}

// --- taking --------------------------------------------------------------------------------------

Result<std::optional<DescriptorTake>> DescriptorTake::from(const std::filesystem::path& path) {
  const auto address = address_of(path);
  if (!address) return std::unexpected(address.error());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return failed("cannot take over from", path, std::strerror(errno));
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  if (::connect(socket.get(), raw(*address), sizeof *address) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) return std::nullopt;
    return failed("cannot take over from", path, std::strerror(errno));
  }
  auto parcel = receive_parcel(socket.get());
  if (!parcel) return failed("cannot take over from", path, "the process there hands nothing over");
  return DescriptorTake(std::move(socket), std::move(*parcel));
}

Status DescriptorTake::confirm() {
  if (::send(socket_.get(), &kServing, 1, MSG_NOSIGNAL) == 1) return {};
  return error(ErrorCode::kUnavailable, "the process that is to be replaced has gone");
}

}  // namespace pd::net
