// One instance: starts stateless, registers, gets a role, loads, connects, serves its P/D verbs.
// Loop thread only, except the loader thread and the threads inside the services.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "base/metrics.h"
#include "base/result.h"
#include "legs/leg_server.h"
#include "net/event_loop.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "protocol/control_messages.h"
#include "worker/decode_service.h"
#include "worker/engine_runtime.h"
#include "worker/memory_plan.h"
#include "worker/prefill_service.h"
#include "worker/transfer_thread.h"

namespace pd::worker {

struct WorkerOptions {
  WorkerId id;
  BootId boot;
  net::HttpServerOptions http;
  std::optional<net::HttpAddress>
      controller;  // registers there; without one somebody must assign the role by hand
  std::string secret;
  ModelOptions model;
  MemorySettings memory;
  int chunk_tokens = 256;
  Duration lease{std::chrono::seconds(5)};
  bool block_fixed = false;
  std::uint64_t seed = 0;
};

class Worker {
 public:
  // Listens at once; works while `loop` runs. `transport` is not running yet.
  static Result<std::unique_ptr<Worker>> create(net::EventLoop& loop,
                                                std::unique_ptr<transfer::KvTransport> transport,
                                                WorkerOptions options);
  ~Worker();

  std::uint16_t port() const { return server_->port(); }
  // Accepts nothing new; `done` runs when nothing is held any more, or after `limit`.
  void drain(Duration limit, std::function<void()> done);

 private:
  Worker(net::EventLoop& loop, std::unique_ptr<transfer::KvTransport> transport,
         WorkerOptions options);
  void handle(net::HttpRequest request, net::HttpResponse response);
  void handle_assign(const net::HttpRequest& request, net::HttpResponse& response);
  void handle_renew(const net::HttpRequest& request, net::HttpResponse& response);
  void handle_health(std::string_view question, net::HttpResponse& response) const;
  protocol::WorkerStatus status() const;
  std::string metrics_text();
  bool ready() const;

  void register_with_controller();
  void load();
  void on_loaded(Result<std::unique_ptr<LoadedModel>> loaded);
  Status start_services();
  Status start_prefill();
  Status start_decode();
  void connect_peers();
  void fail(const Error& error);
  void check_drained();

  net::EventLoop& loop_;
  WorkerOptions options_;
  Metrics metrics_;
  net::HttpClient http_;
  std::unique_ptr<net::HttpServer> server_;
  legs::LegServer legs_;
  TransferThread transfer_;
  std::optional<protocol::Assignment> assignment_;
  std::atomic<double> load_fraction_{0.0};
  std::unique_ptr<LoadedModel> loaded_;
  std::optional<transfer::ExposedRegion> region_;
  std::unique_ptr<PrefillService> prefill_;
  std::unique_ptr<DecodeService> decode_;
  int peers_pending_ = 0;
  bool registered_ = false;
  bool draining_ = false;
  std::string trouble_ = "no role assigned";
  bool fatal_ = false;
  std::function<void()> drained_;
  std::optional<net::EventLoop::TimerId> timer_;
  std::shared_ptr<std::atomic<bool>> alive_;
  std::jthread loader_;
};

}  // namespace pd::worker
