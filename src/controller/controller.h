// Sets a group up and keeps it whole: starts instances, gives them roles, warms them up, announces
// them, replaces exactly the one that died. Drives policy::Group with processes, HTTP and the
// store. Loop thread only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/result.h"
#include "base/rng.h"
#include "controller/warm_up.h"
#include "launch/process.h"
#include "net/event_loop.h"
#include "net/fd_watch.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "policy/gateway_presence.h"
#include "policy/group.h"
#include "protocol/control_messages.h"
#include "protocol/topology.h"
#include "store/store.h"

namespace pd::controller {

struct ControllerOptions {
  net::HttpServerOptions http;
  policy::GroupOptions group;
  std::string secret;
  // The worker program; "--id N --controller HOST:PORT" is appended.
  std::vector<std::string> worker_argv;
  std::filesystem::path log_directory;
  std::optional<int>
      lifeline;  // descriptor that workers inherit instead of dying with this process
  std::uint64_t seed = 0;
  Duration poll_every{
      std::chrono::milliseconds(500)};  // health of each instance; faster while it starts
};

class Controller {
 public:
  // Listens at once; works while `loop` runs. `store` holds the fence and the next instance id.
  // Both outlive it.
  static Result<std::unique_ptr<Controller>> create(net::EventLoop& loop,
                                                    store::ClusterStore& store,
                                                    ControllerOptions options);
  ~Controller();

  std::uint16_t port() const { return server_->port(); }
  // Stops every worker in order (SIGTERM, SIGKILL after `limit`); `done` runs when the last one has
  // ended.
  void stop(Duration limit, std::function<void()> done);

 private:
  struct Worker {
    std::optional<launch::Process> process;
    net::FdWatch exit_watch;
    std::filesystem::path log_file;
    std::optional<protocol::Registration> registration;
    std::optional<net::HttpAddress> address;
    std::optional<protocol::WorkerStatus> status;
    std::optional<net::HttpClient::CallId> call;
    std::optional<net::EventLoop::TimerId> timer;
  };
  struct LongPoll {
    net::HttpResponse response;
    net::EventLoop::TimerId timer;
    std::optional<std::uint64_t> gateway;  // whose; nullopt: somebody else's
    int gateways_known = 0;                // how many there are, as it was last told
  };

  Controller(net::EventLoop& loop, store::ClusterStore& store, ControllerOptions options);
  Status claim();
  void handle(net::HttpRequest request, net::HttpResponse response);
  void handle_register(const net::HttpRequest& request, net::HttpResponse& response);
  void handle_topology(const net::HttpRequest& request, net::HttpResponse response);
  void answer(std::uint64_t poll, int status);
  void answer_polls(const std::function<bool(const LongPoll&)>& which);
  void count_gateways();
  std::string status_json() const;

  void pump();
  void act(const policy::StartInstance& action);
  void act(const policy::AssignRole& action);
  void act(const policy::WarmUp& action);
  void act(const policy::StopInstance& action);
  void act(const policy::PublishMembers& action);
  void on_exit(WorkerId id);
  void poll_worker(WorkerId id);
  void on_status(WorkerId id, const Result<net::HttpClient::Whole>& answer);
  void forget(WorkerId id);
  Status persist_next_id();
  net::HttpCall call_to(const Worker& worker, const char* method, const char* target,
                        std::string body) const;

  net::EventLoop& loop_;
  store::ClusterStore& store_;
  ControllerOptions options_;
  Metrics metrics_;
  Rng rng_;
  net::HttpClient http_;
  std::unique_ptr<net::HttpServer> server_;
  std::unique_ptr<policy::Group> group_;
  protocol::Topology topology_;
  std::map<WorkerId, Worker> workers_;
  std::map<std::uint64_t, std::shared_ptr<WarmUpRun>> warm_ups_;
  std::map<std::uint64_t, LongPoll> polls_;
  policy::GatewayPresence presence_;
  std::optional<net::EventLoop::TimerId> presence_timer_;
  std::uint64_t next_key_ = 1;  // of warm_ups_ and polls_
  std::optional<net::EventLoop::TimerId> timer_;
  std::optional<Time> timer_at_;
  bool pumping_ = false, pump_again_ = false;
  std::function<void()> stopped_;
  std::string
      last_trouble_;  // what ended an instance before the group was complete for the first time
  bool was_complete_ = false;
};

}  // namespace pd::controller
