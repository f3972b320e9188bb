#include "gateway/gateway.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/log.h"
#include "base/mapped_file.h"
#include "base/text.h"

namespace pd::gateway {

using protocol::ApiError;
using protocol::ApiRequest;

namespace {

// Bodies waiting for a text thread. Parsing takes some 10 ms for 10 MiB, and tokenizing ends with
// the model's context, so this is about a second of work.
constexpr TextWorker::Limits kTextLimits{.items = 1024, .bytes = Bytes(64 << 20)};
constexpr std::size_t kAccessFileMax = 64 << 20;

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

ApiError shutting_down() {
  return {503, "server_error", "this gateway is shutting down; retry elsewhere", "", "draining"};
}

ApiError too_many_texts() {
  return {429, "rate_limit_error",
          "more text is being read than this gateway can hold; try again later", "", "busy"};
}

policy::DispatcherOptions seeded(policy::DispatcherOptions options, std::uint64_t seed) {
  options.seed = seed;
  return options;
}

std::int64_t unix_milliseconds() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Result<std::unique_ptr<Gateway>> Gateway::create(net::EventLoop& loop, const model::Model& model,
                                                 GatewayOptions options) {
  std::unique_ptr<Gateway> gateway(new Gateway(loop, model, std::move(options)));
  if (!gateway->options_.certificate.certificate.empty()) {
    auto files = CertificateFiles::open(
        loop, gateway->options_.certificate, gateway->metrics_,
        [raw = gateway.get()](auto context) { raw->server_->use_tls(std::move(context)); });
    if (!files) return std::unexpected(files.error());
    gateway->certificate_ = std::move(*files);
    gateway->options_.http.tls = gateway->certificate_->context();
  }
  auto server = net::HttpServer::create(
      loop, gateway->options_.http,
      [raw = gateway.get()](net::HttpRequest request, net::HttpResponse response) {
        raw->handle(std::move(request), std::move(response));
      });
  if (!server) return std::unexpected(server.error());
  gateway->server_ = std::move(*server);
  if (Status opened = gateway->open_access(); !opened) return std::unexpected(opened.error());
  if (!gateway->options_.access_log.empty()) {
    auto log = AccessLog::open(gateway->options_.access_log, gateway->metrics_);
    if (!log) return std::unexpected(log.error());
    gateway->access_log_ = std::move(*log);
  }
  if (gateway->options_.admin) {
    auto admin = AdminServer::create(loop, *gateway->options_.admin, gateway->book_,
                                     gateway->access_, [raw = gateway.get()] {
                                       raw->drain();
                                       if (raw->on_drain_) raw->on_drain_();
                                     });
    if (!admin) return std::unexpected(admin.error());
    gateway->admin_ = std::move(*admin);
  }
  gateway->text_.run();
  gateway->tools_.run();
  gateway->topology_.run();
  return gateway;
}

Gateway::Gateway(net::EventLoop& loop, const model::Model& model, GatewayOptions options)
    : loop_(loop),
      model_(model),
      options_(std::move(options)),
      answer_metrics_(metrics_),
      access_(options_.secret, metrics_),
      book_([this](const RequestEntry& entry) {
        if (access_log_) access_log_->write(to_json(entry).dump());
      }),
      rng_(options_.seed),
      prepare_{&model, options_.model_name, {}, options_.context_max},
      http_(loop),
      driver_(loop, http_, seeded(options_.dispatcher, options_.seed), options_.secret, metrics_),
      topology_(loop, http_, options_.controller, options_.secret,
                [this](const protocol::Topology& topology) {
                  log::info("topology {}: {} instances", topology.revision,
                            topology.instances.size());
                  driver_.on_topology(topology);
                }),
      text_(kTextLimits),
      tools_(kTextLimits) {}

Gateway::~Gateway() = default;

Status Gateway::open_access() {
  if (options_.access_file.empty()) return {};
  const auto mistakes_as_error = [](const std::vector<std::string>& mistakes) {
    std::string all;
    for (const std::string& mistake : mistakes) all += (all.empty() ? "" : "\n") + mistake;
    return error(ErrorCode::kInvalidArgument, all);
  };
  const auto read = read_file(options_.access_file, kAccessFileMax);
  if (!read) return std::unexpected(read.error());
  const auto file = protocol::parse_access_file(*read, options_.access_file);
  if (!file) return mistakes_as_error(file.error());
  use_access(*file);
  access_file_ = std::make_unique<WatchedFile>(
      loop_, options_.access_file, kAccessFileMax, [this](const Result<std::string>& content) {
        if (!content)
          return log::error("access file: {}; the keys stay as they were", content.error().message);
        const auto changed = protocol::parse_access_file(*content, options_.access_file);
        if (changed) return use_access(*changed);
        for (const std::string& mistake : changed.error())
          log::error("{}; the keys stay as they were", mistake);
      });
  return {};
}

void Gateway::use_access(const protocol::AccessFile& file) {
  access_.use(file, loop_.now());
  for (const auto& view : access_.tenants())
    driver_.set_weight(view.caller.tenant, view.caller.weight);
  log::info("access file: {} tenants, {} keys", file.tenants.size(), file.keys.size());
}

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
  if (path.starts_with("/v1/")) {
    if (const auto caller = access_.authenticate(request); !caller)
      return refuse(response, caller.error());
  }
  if (path == "/v1/models")
    return get("application/json",
               nlohmann::json{{"object", "list"}, {"data", {model_json()}}}.dump());
  if (path == "/v1/models/" + options_.model_name) {
    return get("application/json", model_json().dump());
  }
  if (path.starts_with("/v1/models/")) {
    return refuse(response, {404, "invalid_request_error",
                             fmt::format("The model '{}' does not exist; this server has '{}'",
                                         path.substr(11), options_.model_name),
                             "model", "model_not_found"});
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
                        {"requests_in_flight", answer_metrics_.in_flight.value()},
                        {"topology_revision", topology_.revision()},
                        {"controller_answers", topology_.connected()}}
      .dump();
}

void Gateway::end_early(Incoming& incoming, const ApiError& error,
                        std::vector<net::Header> headers) {
  if (error.status == 429 && headers.empty()) headers.emplace_back("retry-after", "1");
  incoming.response.send(error.status, "application/json", to_json(error), headers);
  answer_metrics_.in_flight.set(answer_metrics_.in_flight.value() - 1);
  answer_metrics_.rejected.add();
  RequestEntry entry;
  entry.endpoint = incoming.arrival.endpoint;
  entry.peer = incoming.arrival.peer;
  entry.caller = incoming.arrival.caller;
  entry.unix_ms = incoming.arrival.unix_ms;
  entry.prepare = entry.total = loop_.now() - incoming.arrival.received;
  entry.status = error.status;
  entry.error_code = error.code.empty() ? error.type : error.code;
  book_.leave(entry);
}

void Gateway::end_over_limit(Incoming& incoming, const Refusal& refusal) {
  std::vector<net::Header> headers = access_.headers(incoming.arrival.caller, loop_.now());
  const auto seconds = static_cast<int>(std::ceil(to_seconds(refusal.retry_after)));
  headers.emplace_back("retry-after", fmt::format("{}", std::max(1, seconds)));
  end_early(incoming, refusal.error, std::move(headers));
}

void Gateway::handle_generation(ApiRequest::Kind kind, net::HttpRequest request,
                                net::HttpResponse response) {
  answer_metrics_.received.add();
  answer_metrics_.in_flight.set(answer_metrics_.in_flight.value() + 1);
  auto incoming =
      std::make_shared<Incoming>(Incoming{.kind = kind,
                                          .arrival = {.received = request.received,
                                                      .unix_ms = unix_milliseconds(),
                                                      .endpoint = std::string(request.path()),
                                                      .peer = request.peer},
                                          .response = std::move(response)});
  if (draining_) return end_early(*incoming, shutting_down());
  auto caller = access_.authenticate(request);
  if (!caller) return end_early(*incoming, caller.error());
  incoming->arrival.caller = std::move(*caller);
  if (const auto refusal = access_.admit(incoming->arrival.caller, loop_.now()))
    return end_over_limit(*incoming, *refusal);
  ++preparing_;
  incoming->wanted = std::make_shared<std::atomic<bool>>(true);
  incoming->response.on_close([wanted = incoming->wanted] { *wanted = false; });
  auto body = std::make_shared<std::string>(std::move(request.body));
  const Bytes bytes(static_cast<Bytes::rep>(body->size()));
  const bool queued = text_.submit(bytes, incoming->wanted, [this, body, incoming](bool go) {
    const bool late = SteadyTime::now() >= incoming->arrival.received + options_.ttft_limit;
    auto prepared = std::make_shared<protocol::ApiResult<PreparedRequest>>(
        go && !late ? prepare(incoming->kind, *body, prepare_, unix_seconds(),
                              incoming->arrival.caller.salt)
                    : std::unexpected(go ? too_many_texts() : shutting_down()));
    loop_.post([this, incoming, prepared] {
      --preparing_;
      answer(std::move(*incoming), std::move(*prepared));
    });
  });
  if (queued) return;
  --preparing_;
  access_.release(incoming->arrival.caller);
  end_early(*incoming, too_many_texts());
}

void Gateway::answer(Incoming incoming, protocol::ApiResult<PreparedRequest> prepared) {
  const Caller& caller = incoming.arrival.caller;
  const auto over = [&] { access_.release(caller); };
  if (!incoming.response.open()) {
    over();
    answer_metrics_.in_flight.set(answer_metrics_.in_flight.value() - 1);
    return answer_metrics_.cancelled.add();
  }
  if (!prepared) {
    over();
    return end_early(incoming, prepared.error());
  }
  Tokens prompts;
  for (const auto& prompt : prepared->prompts)
    prompts += Tokens(static_cast<std::int64_t>(prompt->size()));
  if (const auto refusal = access_.admit_tokens(caller, prompts, loop_.now())) {
    over();
    return end_over_limit(incoming, *refusal);
  }
  protocol::AnswerIdentity identity;
  identity.kind = incoming.kind;
  identity.id =
      (incoming.kind == ApiRequest::Kind::kChat ? "chatcmpl-" : "cmpl-") + to_string(next_id());
  identity.model = options_.model_name;
  identity.created = unix_seconds();
  const AnswerContext context{&loop_, &driver_, &model_, &answer_metrics_, &access_, &book_};
  const Time received = incoming.arrival.received;
  const auto running =
      std::make_shared<Answer>(context, std::move(*prepared), std::move(identity),
                               std::move(incoming.response), std::move(incoming.arrival));
  running->start([this] { return next_id(); }, [this] { return rng_.next(); },
                 {received + options_.ttft_limit, received + options_.request_limit});
}

void Gateway::handle_text(net::HttpRequest request, net::HttpResponse response, bool tokenizing) {
  if (const auto caller = access_.authenticate(request); !caller)
    return refuse(response, caller.error());
  auto body = std::make_shared<std::string>(std::move(request.body));
  const Bytes bytes(static_cast<Bytes::rep>(body->size()));
  auto wanted = std::make_shared<std::atomic<bool>>(true);
  response.on_close([wanted] { *wanted = false; });
  const bool queued = tools_.submit(bytes, wanted, [this, body, response, tokenizing](bool go) {
    auto result = std::make_shared<protocol::ApiResult<std::string>>(
        !go          ? std::unexpected(shutting_down())
        : tokenizing ? tokenize(*body, prepare_, unix_seconds())
                     : detokenize(*body, prepare_));
    loop_.post([this, result, response]() mutable {
      if (*result)
        response.send(200, "application/json", **result);
      else
        refuse(response, result->error());
    });
  });
  if (!queued) refuse(response, too_many_texts());
}

void Gateway::give_up() {
  text_.give_up();
  tools_.give_up();
  driver_.cancel_all();
}

}  // namespace pd::gateway
