#include "gateway/gateway.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "base/log.h"
#include "base/text.h"

namespace pd::gateway {

using protocol::ApiError;
using protocol::ApiRequest;

namespace {

// Bodies waiting for the text thread. At 10 us a token-kilobyte this is well below a second of
// work.
constexpr std::size_t kTextQueueMax = 1024;

std::int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

ApiError not_found(const net::HttpRequest& request) {
  return {404, "invalid_request_error",
          fmt::format("Invalid URL ({} {})", request.method, request.path()), "", "unknown_url"};
}

ApiError wrong_method(const net::HttpRequest& request, std::string_view right) {
  return {405, "invalid_request_error",
          fmt::format("{} does not answer {}; use {}", request.path(), request.method, right), "",
          "method_not_allowed"};
}

}  // namespace

Result<std::unique_ptr<Gateway>> Gateway::create(net::EventLoop& loop, const model::Model& model,
                                                 GatewayOptions options) {
  std::unique_ptr<Gateway> gateway(new Gateway(loop, model, std::move(options)));
  auto server = net::HttpServer::create(
      loop, gateway->options_.http,
      [raw = gateway.get()](net::HttpRequest request, net::HttpResponse response) {
        raw->handle(std::move(request), std::move(response));
      });
  if (!server) return std::unexpected(server.error());
  gateway->server_ = std::move(*server);
  gateway->text_.run();
  gateway->topology_.run();
  return gateway;
}

Gateway::Gateway(net::EventLoop& loop, const model::Model& model, GatewayOptions options)
    : loop_(loop),
      model_(model),
      options_(std::move(options)),
      answer_metrics_(metrics_),
      rng_(options_.seed),
      prepare_{&model, options_.model_name, {}, options_.context_max},
      http_(loop),
      driver_(loop, http_, options_.dispatcher, options_.secret, metrics_),
      topology_(loop, http_, options_.controller, options_.secret,
                [this](const protocol::Topology& topology) {
                  log::info("topology {}: {} instances", topology.revision,
                            topology.instances.size());
                  driver_.on_topology(topology);
                }),
      text_(kTextQueueMax) {}

Gateway::~Gateway() = default;

void Gateway::drain() {
  draining_ = true;
  server_->stop_accepting();
}

void Gateway::refuse(net::HttpResponse& response, const ApiError& error) {
  response.send(error.status, "application/json", to_json(error));
}

void Gateway::handle(net::HttpRequest request, net::HttpResponse response) {
  const std::string path(request.path());
  const auto get = [&](std::string_view type, const std::string& body) {
    if (request.method != "GET" && request.method != "HEAD")
      return refuse(response, wrong_method(request, "GET"));
    response.send(200, type, body);
  };
  if (path == "/v1/chat/completions" || path == "/v1/completions" || path == "/tokenize" ||
      path == "/detokenize") {
    if (request.method != "POST") return refuse(response, wrong_method(request, "POST"));
    if (path == "/v1/chat/completions")
      return handle_generation(ApiRequest::Kind::kChat, std::move(request), std::move(response));
    if (path == "/v1/completions")
      return handle_generation(ApiRequest::Kind::kCompletion, std::move(request),
                               std::move(response));
    return handle_text(std::move(request), std::move(response), path == "/tokenize");
  }
  if (path == "/v1/models")
    return get("application/json",
               nlohmann::json{{"object", "list"}, {"data", {model_json()}}}.dump());
  if (path == "/v1/models/" + options_.model_name) {
    return get("application/json", model_json().dump());
  }
  if (path == "/metrics") return get("text/plain; version=0.0.4", metrics_.text());
  if (path == "/health") {
    const bool ready = driver_.has_workers() && !draining_;
    response.send(ready ? 200 : 503, "application/json", health_json());
    return;
  }
  refuse(response, not_found(request));
}

nlohmann::json Gateway::model_json() const {
  return {{"id", options_.model_name},
          {"object", "model"},
          {"created", options_.created},
          {"owned_by", "pdserve"},
          {"max_model_len", options_.context_max.value()}};
}

std::string Gateway::health_json() const {
  return nlohmann::json{{"status", draining_               ? "draining"
                                   : driver_.has_workers() ? "ok"
                                                           : "no instances"},
                        {"requests_in_flight", driver_.in_flight()},
                        {"topology_revision", topology_.revision()},
                        {"controller_answers", topology_.connected()}}
      .dump();
}

void Gateway::handle_generation(ApiRequest::Kind kind, net::HttpRequest request,
                                net::HttpResponse response) {
  answer_metrics_.received.add();
  answer_metrics_.in_flight.set(answer_metrics_.in_flight.value() + 1);
  const auto reject = [&](const ApiError& error) {
    refuse(response, error);
    answer_metrics_.in_flight.set(answer_metrics_.in_flight.value() - 1);
    answer_metrics_.rejected.add();
  };
  if (draining_)
    return reject(
        {503, "server_error", "this gateway is shutting down; retry elsewhere", "", "draining"});
  ++preparing_;
  const Time received = request.received;
  auto body = std::make_shared<std::string>(std::move(request.body));
  const bool queued = text_.submit([this, kind, body, response, received]() mutable {
    auto prepared = std::make_shared<protocol::ApiResult<PreparedRequest>>(
        prepare(kind, *body, prepare_, unix_seconds()));
    loop_.post([this, kind, prepared, response, received]() mutable {
      --preparing_;
      answer(kind, std::move(*prepared), std::move(response), received);
    });
  });
  if (queued) return;
  --preparing_;
  reject({429, "rate_limit_error",
          "more requests are being read than this gateway can hold; try again later", "", "busy"});
}

void Gateway::answer(ApiRequest::Kind kind, protocol::ApiResult<PreparedRequest> prepared,
                     net::HttpResponse response, Time received) {
  const auto end = [&](Counter AnswerMetrics::* counter) {
    answer_metrics_.in_flight.set(answer_metrics_.in_flight.value() - 1);
    (answer_metrics_.*counter).add();
  };
  if (!response.open()) return end(&AnswerMetrics::cancelled);
  if (!prepared) {
    refuse(response, prepared.error());
    return end(&AnswerMetrics::rejected);
  }
  protocol::AnswerIdentity identity;
  identity.kind = kind;
  identity.id = (kind == ApiRequest::Kind::kChat ? "chatcmpl-" : "cmpl-") + to_string(next_id());
  identity.model = options_.model_name;
  identity.created = unix_seconds();
  const AnswerContext context{&loop_, &driver_, &model_, &answer_metrics_};
  const auto running = std::make_shared<Answer>(context, std::move(*prepared), std::move(identity),
                                                std::move(response), received);
  running->start([this] { return next_id(); }, [this] { return rng_.next(); },
                 {received + options_.ttft_limit, received + options_.request_limit});
}

void Gateway::handle_text(net::HttpRequest request, net::HttpResponse response, bool tokenizing) {
  auto body = std::make_shared<std::string>(std::move(request.body));
  const bool queued = text_.submit([this, body, response, tokenizing]() mutable {
    auto result = std::make_shared<protocol::ApiResult<std::string>>(
        tokenizing ? tokenize(*body, prepare_, unix_seconds()) : detokenize(*body, prepare_));
    loop_.post([this, result, response]() mutable {
      if (*result)
        response.send(200, "application/json", **result);
      else
        refuse(response, result->error());
    });
  });
  if (!queued)
    refuse(response, {429, "rate_limit_error", "too many requests are being read; try again later",
                      "", "busy"});
}

}  // namespace pd::gateway
