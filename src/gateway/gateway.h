// The door: an OpenAI API in front of one group. Reads and parses each body once, hands the request
// to the dispatcher, relays what comes back. One event loop; tokenization runs beside it on a
// thread of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/metrics.h"
#include "base/result.h"
#include "base/rng.h"
#include "gateway/access.h"
#include "gateway/access_log.h"
#include "gateway/admin.h"
#include "gateway/answer.h"
#include "gateway/certificate_files.h"
#include "gateway/leg_driver.h"
#include "gateway/prepare.h"
#include "gateway/request_book.h"
#include "gateway/topology_watch.h"
#include "gateway/watched_file.h"
#include "net/event_loop.h"
#include "net/http_client.h"
#include "net/http_server.h"

namespace pd::gateway {

struct GatewayOptions {
  net::HttpServerOptions http;
  net::HttpAddress controller;
  std::string secret;
  std::string model_name;
  Tokens context_max;
  Duration ttft_limit{std::chrono::seconds(30)};
  Duration request_limit{std::chrono::seconds(600)};
  policy::DispatcherOptions dispatcher;
  std::string access_file;            // keys and tenants; empty: none are asked for
  CertificatePaths certificate;       // empty: without TLS
  std::string access_log;             // a line for each request; empty: none
  std::optional<AdminOptions> admin;  // nullopt: no such port
  std::uint64_t seed = 0;             // of request ids and of seeds that clients leave open
  std::int64_t created = 0;           // Unix seconds, what /v1/models says
};

class Gateway {
 public:
  // Listens at once; serves while `loop` runs. `loop` and `model` outlive it.
  static Result<std::unique_ptr<Gateway>> create(net::EventLoop& loop, const model::Model& model,
                                                 GatewayOptions options);
  ~Gateway();

  std::uint16_t port() const { return server_->port(); }
  std::optional<std::uint16_t> admin_port() const {
    return admin_ ? std::optional(admin_->port()) : std::nullopt;
  }
  // Runs when an operator asks for a drain; without it only drain() is done.
  void on_drain(std::function<void()> work) { on_drain_ = std::move(work); }
  // No new requests; done() once what is in flight has ended and its clients have every byte.
  void drain();
  // Ends what is still in flight with an error that says so; done() follows when clients have it.
  void give_up();
  bool done() const {
    return draining_ && driver_.in_flight() == 0 && preparing_ == 0 && server_->connections() == 0;
  }

 private:
  // A request for an answer, on its way from the door to its Answer.
  struct Incoming {
    protocol::ApiRequest::Kind kind;
    Arrival arrival;
    net::HttpResponse response;
    std::shared_ptr<std::atomic<bool>> wanted;  // false: its client has left
  };
  Gateway(net::EventLoop& loop, const model::Model& model, GatewayOptions options);
  Status open_access();
  void use_access(const protocol::AccessFile& file);
  void handle(net::HttpRequest request, net::HttpResponse response);
  void handle_generation(protocol::ApiRequest::Kind kind, net::HttpRequest request,
                         net::HttpResponse response);
  void answer(Incoming incoming, protocol::ApiResult<PreparedRequest> prepared);
  // It ends before it has an Answer.
  void end_early(Incoming& incoming, const protocol::ApiError& error,
                 std::vector<net::Header> headers = {});
  void end_over_limit(Incoming& incoming, const Refusal& refusal);
  void handle_text(net::HttpRequest request, net::HttpResponse response, bool tokenizing);
  void refuse(net::HttpResponse& response, const protocol::ApiError& error);
  nlohmann::json model_json() const;
  std::string health_json() const;
  RequestId next_id() { return {rng_.next(), rng_.next()}; }

  net::EventLoop& loop_;
  const model::Model& model_;
  GatewayOptions options_;
  Metrics metrics_;
  AnswerMetrics answer_metrics_;
  Access access_;
  std::unique_ptr<WatchedFile> access_file_;
  std::unique_ptr<CertificateFiles> certificate_;
  std::unique_ptr<AccessLog> access_log_;
  RequestBook book_;
  Rng rng_;
  PrepareContext prepare_;
  net::HttpClient http_;
  LegDriver driver_;
  TopologyWatch topology_;
  std::unique_ptr<net::HttpServer> server_;
  std::unique_ptr<AdminServer> admin_;
  std::function<void()> on_drain_;
  // Bodies of /tokenize and /detokenize may take seconds: no request for an answer waits for them.
  TextWorker text_, tools_;
  std::size_t preparing_ = 0;
  bool draining_ = false;
};

}  // namespace pd::gateway
