// The instance's side of channels: takes them, reads their commands, and hands each leg that begins
// to a handler with a reply to write its frames to. Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "base/units.h"
#include "net/http_server.h"
#include "protocol/pd_messages.h"

namespace pd::legs {

namespace detail {
struct ServerChannel;
}

// HttpLimits::write_buffer_max of a server that takes channels: one carries the tokens of all its
// legs, and the largest frame (protocol::kFrameBytesMax).
inline constexpr Bytes kChannelUnsentMax{32 * 1024 * 1024};

// Whoever opened a channel: a loop of a gateway, or the controller. Keeps nothing alive.
class LegPeer {
 public:
  explicit LegPeer(const std::shared_ptr<detail::ServerChannel>& channel) : channel_(channel) {}
  // Of no leg; into the void when its channel has closed.
  void say(const protocol::Frame& frame) const;
  bool operator==(const LegPeer& other) const {
    return !channel_.owner_before(other.channel_) && !other.channel_.owner_before(channel_);
  }

 private:
  std::weak_ptr<detail::ServerChannel> channel_;
};

// What one leg says. Frames that are sent in one turn of the loop leave together with those of all
// other legs of the channel. A reply that goes without an end was forgotten: the leg ends as a
// fault.
class LegReply {
 public:
  LegReply(std::shared_ptr<detail::ServerChannel> channel, const protocol::AttemptId& leg);
  LegReply(LegReply&&) noexcept = default;
  LegReply& operator=(LegReply&&) noexcept;
  ~LegReply();

  void send(const protocol::Frame& frame);
  void send_encoded(std::string_view frame);  // by protocol::append_frame()
  void end();                                 // after the frame that concludes the leg
  void finish(const protocol::Frame& frame) {
    send(frame);
    end();
  }
  // Once, if the leg is cancelled or its channel closes before the end: nothing that it says is
  // read any more.
  void on_close(std::function<void()> work);
  bool open() const;
  LegPeer peer() const { return LegPeer(channel_); }

 private:
  std::shared_ptr<detail::ServerChannel> channel_;
  protocol::AttemptId leg_;
};

struct LegHandlers {
  std::function<void(protocol::PrefillRequest, LegReply)> on_prefill;
  std::function<void(protocol::DecodeRequest, LegReply)> on_decode;
};

class LegServer {
 public:
  // The handlers outlive the HTTP server that takes the channels.
  explicit LegServer(LegHandlers handlers);
  // Of a request to /pd/v1/legs: changes its connection to a channel, or refuses it.
  void take(const net::HttpRequest& request, net::HttpResponse response);

 private:
  std::shared_ptr<const LegHandlers> handlers_;
};

}  // namespace pd::legs
