#include "gateway/instance_channels.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace pd::gateway {
namespace {

// An instance that is gone costs one refused connection of each loop in this time; a gateway is
// back in service so soon after its instances are.
constexpr Duration kReopenEvery = std::chrono::seconds(1);
// The first time: most that lose one connection can have another.
constexpr Duration kReopenSoon = std::chrono::milliseconds(100);

}  // namespace

InstanceChannels::InstanceChannels(net::EventLoop& loop, net::HttpClient& http, std::string secret,
                                   InstanceChannelsObserver observer)
    : loop_(loop), http_(http), secret_(std::move(secret)), observer_(std::move(observer)) {}

InstanceChannels::~InstanceChannels() {
  if (timer_) loop_.cancel(*timer_);
}

void InstanceChannels::follow(const std::map<WorkerId, Place>& members) {
  std::erase_if(members_, [&](const auto& entry) {
    const auto it = members.find(entry.first);
    return it == members.end() || it->second.address != entry.second.place.address;
  });
  for (const auto& [worker, place] : members) {
    Member& member = members_[worker];
    member.place = place;
    if (member.channel) continue;
    member.channel = channel_to(worker, place.address);
    member.channel->open();  // so that can_serve() does not believe in instances that are gone
  }
}

std::unique_ptr<legs::LegChannel> InstanceChannels::channel_to(WorkerId worker,
                                                               const net::HttpAddress& address) {
  legs::LegChannelObserver observer;
  observer.on_frame = [this, worker](const protocol::LegFrame& frame) {
    observer_.on_frame(worker, frame);
  };
  observer.on_read = [this] { observer_.on_read(); };
  observer.on_open = [this, worker] { on_open(worker); };
  observer.on_lost = [this, worker](const Error& error) { on_lost(worker, error); };
  return std::make_unique<legs::LegChannel>(http_, address, secret_, std::move(observer));
}

legs::LegChannel* InstanceChannels::find(WorkerId worker) const {
  const auto it = members_.find(worker);
  return it == members_.end() ? nullptr : it->second.channel.get();
}

bool InstanceChannels::can_serve() const {
  const auto somebody = [this](bool (*does)(Role)) {
    return std::ranges::any_of(members_, [does](const auto& entry) {
      const Member& member = entry.second;
      return member.place.admits && does(member.place.role) && !member.channel->lost();
    });
  };
  return somebody(prefills) && somebody(decodes);
}

void InstanceChannels::on_open(WorkerId worker) {
  if (std::exchange(members_.at(worker).known_lost, false))
    log::info("instance {}: its channel is open again", worker.value());
  observer_.on_open(worker);
}

void InstanceChannels::on_lost(WorkerId worker, const Error& error) {
  const bool again = std::exchange(members_.at(worker).known_lost, true);
  reopen_in(again ? kReopenEvery : kReopenSoon);
  observer_.on_lost(worker, error, again);
}

void InstanceChannels::reopen_in(Duration time) {
  const Time at = loop_.now() + time;
  if (timer_ && reopens_at_ <= at) return;
  if (timer_) loop_.cancel(*timer_);
  reopens_at_ = at;
  timer_ = loop_.call_at(at, [this] { reopen(); });
}

void InstanceChannels::reopen() {
  timer_.reset();
  for (const auto& [worker, member] : members_) {
    if (!member.channel->lost()) continue;
    member.channel->open();
    reopen_in(kReopenEvery);
  }
}

}  // namespace pd::gateway
