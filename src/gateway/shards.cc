#include "gateway/shards.h"

#include "base/check.h"

namespace pd::gateway {

Shards::Shards(net::EventLoop& main, const ShardContext& context, int count)
    : shards_(static_cast<std::size_t>(count)) {
  CHECK(count > 0);
  int number = 0;
  for (Member& member : shards_) {
    if (number > 0) member.own_loop = std::make_unique<net::EventLoop>();
    member.loop = number > 0 ? member.own_loop.get() : &main;
    member.shard = std::make_unique<Shard>(*member.loop, context, *this, number++);
  }
}

Shards::~Shards() {
  for (Member& member : shards_) {
    if (member.own_loop) member.own_loop->stop();
  }
  for (Member& member : shards_) {
    if (member.thread.joinable()) member.thread.join();
  }
  // A loop that goes drops what was posted to it, and with it responses of other shards, which tell
  // their loops: all shards go first, then all loops.
  for (Member& member : shards_) member.shard.reset();
}

Status Shards::open_doors(std::vector<UniqueFd> listeners, const net::HttpServerOptions& options) {
  CHECK(!listeners.empty());
  const std::size_t given = listeners.size();
  while (listeners.size() < shards_.size()) {
    auto another = net::duplicate(listeners[listeners.size() - given]);
    if (!another) return std::unexpected(another.error());
    listeners.push_back(std::move(*another));
  }
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    std::vector<UniqueFd> share;
    for (std::size_t k = i; k < listeners.size(); k += shards_.size())
      share.push_back(std::move(listeners[k]));
    if (Status opened = shards_[i].shard->open_doors(std::move(share), options); !opened)
      return opened;
  }
  return {};
}

void Shards::run() {
  for (Member& member : shards_) {
    member.shard->run();
    if (member.own_loop) member.thread = std::jthread([loop = member.loop] { loop->run(); });
  }
}

void Shards::each(const std::function<void(Shard&)>& work) {
  for (Member& member : shards_)
    member.loop->post([work, shard = member.shard.get()] { work(*shard); });
}

}  // namespace pd::gateway
