// The channels to a group's members, and whether enough of them stand to serve: one that was lost
// is opened anew every second, so that a gateway to which nobody sends while it says that it cannot
// serve finds out by itself that it can again. Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/role.h"
#include "legs/leg_channel.h"
#include "net/event_loop.h"
#include "net/http_client.h"

namespace pd::gateway {

// As legs::LegChannelObserver. The frames of one read come from one instance.
struct InstanceChannelsObserver {
  std::function<void(WorkerId, const protocol::LegFrame&)> on_frame;
  std::function<void()> on_read;
  // `again`: it had been lost before, and has not been open since.
  std::function<void(WorkerId, const Error&, bool again)> on_lost;
  std::function<void(WorkerId)> on_open;  // also for the first time
};

class InstanceChannels {
 public:
  struct Place {
    net::HttpAddress address;
    Role role = Role::kNone;
    bool admits = true;  // false: draining
  };

  // `loop` and `http` outlive it. `secret`: sent with every channel.
  InstanceChannels(net::EventLoop& loop, net::HttpClient& http, std::string secret,
                   InstanceChannelsObserver observer);
  ~InstanceChannels();
  InstanceChannels(const InstanceChannels&) = delete;
  InstanceChannels& operator=(const InstanceChannels&) = delete;

  // The whole membership. Opens the channels to those that are new, closes those to members that
  // are missing or have moved.
  void follow(const std::map<WorkerId, Place>& members);

  // Null: no member.
  legs::LegChannel* find(WorkerId worker) const;
  bool empty() const { return members_.empty(); }
  // Somebody who prefills and somebody who decodes admits requests and is not known to be out of
  // reach. A channel that is being opened counts as one that stands.
  bool can_serve() const;

 private:
  struct Member {
    Place place;
    std::unique_ptr<legs::LegChannel> channel;
    bool known_lost = false;  // and told
  };
  std::unique_ptr<legs::LegChannel> channel_to(WorkerId worker, const net::HttpAddress& address);
  void on_open(WorkerId worker);
  void on_lost(WorkerId worker, const Error& error);
  void reopen_in(Duration time);
  void reopen();

  net::EventLoop& loop_;
  net::HttpClient& http_;
  std::string secret_;
  InstanceChannelsObserver observer_;
  std::map<WorkerId, Member> members_;
  std::optional<net::EventLoop::TimerId> timer_;  // while one is lost
  Time reopens_at_{};
};

}  // namespace pd::gateway
