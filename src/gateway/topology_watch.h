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
  TopologyWatch(net::EventLoop& loop, net::HttpClient& http, net::HttpAddress controller,
                std::string secret, std::function<void(const protocol::Topology&)> on_change);
  ~TopologyWatch();
  void run();

  std::uint64_t revision() const { return revision_; }
  bool connected() const { return connected_; }  // the last poll was answered

 private:
  void ask();
  void on_answer(const Result<net::HttpClient::Whole>& answer);

  net::EventLoop& loop_;
  net::HttpClient& http_;
  net::HttpAddress controller_;
  std::string secret_;
  std::function<void(const protocol::Topology&)> on_change_;
  std::uint64_t revision_ = 0;
  std::uint64_t fence_ = 0;
  bool connected_ = true;  // until shown otherwise: the first failure is worth a line in the log
  std::optional<net::HttpClient::CallId> call_;
  std::optional<net::EventLoop::TimerId> timer_;
};

}  // namespace pd::gateway
