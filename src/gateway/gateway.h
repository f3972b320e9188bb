// The door: an OpenAI API in front of one group. Reads and parses each body once, hands the request
// to the dispatcher, relays what comes back. One event loop; tokenization runs beside it on a
// thread of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/metrics.h"
#include "base/result.h"
#include "base/rng.h"
#include "gateway/answer.h"
#include "gateway/leg_driver.h"
#include "gateway/prepare.h"
#include "gateway/topology_watch.h"
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
  std::uint64_t seed = 0;    // of request ids and of seeds that clients leave open
  std::int64_t created = 0;  // Unix seconds, what /v1/models says
};

class Gateway {
 public:
  // Listens at once; serves while `loop` runs. `loop` and `model` outlive it.
  static Result<std::unique_ptr<Gateway>> create(net::EventLoop& loop, const model::Model& model,
                                                 GatewayOptions options);
  ~Gateway();

  std::uint16_t port() const { return server_->port(); }
  // No new requests; done() once what is in flight has ended and its clients have every byte.
  void drain();
  // Ends what is still in flight with an error that says so; done() follows when clients have it.
  void give_up() { driver_.cancel_all(); }
  bool done() const {
    return draining_ && driver_.in_flight() == 0 && preparing_ == 0 && server_->connections() == 0;
  }

 private:
  Gateway(net::EventLoop& loop, const model::Model& model, GatewayOptions options);
  void handle(net::HttpRequest request, net::HttpResponse response);
  void handle_generation(protocol::ApiRequest::Kind kind, net::HttpRequest request,
                         net::HttpResponse response);
  void answer(protocol::ApiRequest::Kind kind, protocol::ApiResult<PreparedRequest> prepared,
              net::HttpResponse response, Time received);
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
  Rng rng_;
  PrepareContext prepare_;
  net::HttpClient http_;
  LegDriver driver_;
  TopologyWatch topology_;
  std::unique_ptr<net::HttpServer> server_;
  TextWorker text_;
  std::size_t preparing_ = 0;
  bool draining_ = false;
};

}  // namespace pd::gateway
