// Stub workers of one process and the controller's part that a gateway needs: the topology. Loop
// thread only.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "bench/stub_worker.h"
#include "protocol/topology.h"

namespace pd::bench {

class StubGroup {
 public:
  // Listens at once, each worker on a port of its own. `port`: of the topology, 0: the kernel
  // chooses. `worker.port` must be 0.
  static Result<std::unique_ptr<StubGroup>> create(net::EventLoop& loop, int prefill, int decode,
                                                   std::uint16_t port, const StubOptions& worker);
  ~StubGroup();

  std::uint16_t controller_port() const { return server_->port(); }
  const protocol::Topology& topology() const { return topology_; }
  // What the workers hold, all together.
  std::size_t held() const;

 private:
  explicit StubGroup(net::EventLoop& loop) : loop_(loop) {}
  Status add(Role role, const StubOptions& options);
  void handle(const net::HttpRequest& request, net::HttpResponse response);

  net::EventLoop& loop_;
  StubHandoffs handoffs_;
  std::vector<std::unique_ptr<StubWorker>> workers_;
  protocol::Topology topology_;
  std::unique_ptr<net::HttpServer> server_;
};

}  // namespace pd::bench
