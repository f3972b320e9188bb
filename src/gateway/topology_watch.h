// Follows the controller's topology by long polls. When the controller is gone the last topology
// stays in force (G19); it is asked again until it answers. Loop thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "net/event_loop.h"
#include "net/http_client.h"
#include "protocol/topology.h"

namespace pd::gateway {

class TopologyWatch {
 public:
  struct Source {
    net::HttpAddress controller;
    std::string secret;
    std::uint64_t gateway = 0;  // who asks: the same for all loops of a process
  };
  // `on_gateways`: so many gateways serve the cluster, this one too.
  TopologyWatch(net::EventLoop& loop, net::HttpClient& http, Source source,
                std::function<void(const protocol::Topology&)> on_change,
                std::function<void(int)> on_gateways);
  ~TopologyWatch();
  void run();
  // From now on this gateway is none of those that serve the cluster.
  void leave();

  std::uint64_t revision() const { return revision_; }
  int gateways() const { return gateways_; }
  bool connected() const { return connected_; }  // the last poll was answered

 private:
  void ask();
  void take(const protocol::Topology& topology);
  void on_answer(const Result<net::HttpClient::Whole>& answer);

  net::EventLoop& loop_;
  net::HttpClient& http_;
  Source source_;
  std::function<void(const protocol::Topology&)> on_change_;
  std::function<void(int)> on_gateways_;
  int gateways_ = 0;  // as last told; without a controller that stays in force, too
  bool left_ = false;
  std::uint64_t revision_ = 0;
  std::uint64_t fence_ = 0;
  bool connected_ = true;  // until shown otherwise: the first failure is worth a line in the log
  std::optional<net::HttpClient::CallId> call_;
  std::optional<net::EventLoop::TimerId> timer_;
};

}  // namespace pd::gateway
