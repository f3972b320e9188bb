#include "gateway/shard.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "gateway/refuse.h"
#include "gateway/shards.h"
#include "net/percent_encoding.h"

namespace pd::gateway {

using protocol::ApiError;
using protocol::ApiRequest;

namespace {

// Bodies that wait for a text thread, of all tenants: this bounds the memory that they hold. How
// long a request for an answer waits is bounded by ttft_limit. A tenant that is alone has half.
constexpr TextLine::Limits kTextLimits{.items = 2048, .bytes = Bytes(128 << 20)};

std::int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

ApiError not_found(const net::HttpRequest& request) {
  return {404, "invalid_request_error",
          fmt::format("Invalid URL ({} {})", request.method, protocol::shortened(request.path())),
          "", "unknown_url"};
}

ApiError shutting_down() {
  return {503, "server_error", "this gateway is shutting down; retry elsewhere", "", "draining"};
}

ApiError too_many_texts() {
  return {429, "rate_limit_error",
          "more text is being read than this gateway can hold; try again later", "", "busy"};
}

// One of several dispatchers of this gateway: with a seed of its own, and its part of what all of
// them may do together.
policy::DispatcherOptions part_of(policy::DispatcherOptions options, int loops,
                                  std::uint64_t seed) {
  options.seed = seed;
  options.retries.burst = std::max(options.retries.burst / std::max(loops, 1), 1.0);
  options.retries.per_second /= std::max(loops, 1);
  return options;
}

constexpr Duration kIdleGrace = std::chrono::seconds(5);

// Each shard draws ids, seeds and ties of its own.
std::uint64_t seed_of(std::uint64_t seed, int number) {
  for (Rng rng(seed); number > 0; --number) seed = rng.next();
  return seed;
}

// A gauge that does not add up over the shards: it says whose it is when there are several.
Metrics::Labels shard_label(const GatewayOptions& options, int number) {
  if (options.loops <= 1) return {};
  return {{"loop", std::to_string(number)}};
}

}  // namespace

Shard::DoorMetrics::DoorMetrics(Metrics& metrics)
    : open(metrics.gauge("pdserve_connections_open", "connections of clients")),
      refused(metrics.counter("pdserve_connections_refused_total",
                              "connections that could not be served: over [gateway] "
                              "connections_max, or out of descriptors")) {}

Shard::Shard(net::EventLoop& loop, const ShardContext& context, Shards& siblings, int number)
    : loop_(loop),
      context_(context),
      options_(*context.options),
      access_(*context.access),
      siblings_(siblings),
      answer_metrics_(metrics_),
      door_metrics_(metrics_),
      book_([this](const RequestEntry& entry) {
        if (context_.access_log != nullptr) context_.access_log->write(to_json(entry).dump());
      }),
      rng_(seed_of(options_.seed, number)),
      prepare_{context.model, options_.model_name, {}, {options_.context_max}},
      http_(loop),
      driver_(loop, http_,
              part_of(options_.dispatcher, options_.loops, seed_of(options_.seed, number)),
              options_.secret, metrics_, shard_label(options_, number)),
      answer_context_{.loop = &loop,
                      .driver = &driver_,
                      .model = context_.model,
                      .metrics = &answer_metrics_,
                      .access = &access_,
                      .book = &book_,
                      .keep_alive_after = options_.keep_alive_after},
      topology_(
          loop, http_, {options_.controller, options_.secret, options_.id},
          [this, number](const protocol::Topology& topology) {
            if (number == 0)
              log::info("topology {}: {} instances", topology.revision, topology.instances.size());
            bound_context(protocol::kv_max(topology));
            driver_.on_topology(topology);
            if (driver_.knows_instances() && !std::exchange(instances_known_, true))
              context_.instances_known();
          },
          [this](int gateways) { access_.share_between(gateways, loop_.now()); }),
      text_(kTextLimits),
      tools_(kTextLimits) {}

Shard::~Shard() = default;

// What no D can ever hold is told so before anybody has worked for it. Without any D, as many
// tokens as with the last ones.
void Shard::bound_context(Tokens kv_max) {
  if (kv_max == Tokens(0)) return;
  prepare_.context_max = {std::min(options_.context_max, kv_max), kv_max < options_.context_max};
}

Status Shard::open_doors(std::vector<UniqueFd> listeners, const net::HttpServerOptions& options) {
  net::HttpServerOptions own = options;
  // Who has no key must not fill what all bodies share.
  own.wants_body = [this](const net::HttpRequest& head) {
    return access_.authenticate(head).has_value();
  };
  auto server =
      net::HttpServer::adopt(loop_, own, std::move(listeners),
                             [this](net::HttpRequest request, net::HttpResponse response) {
                               handle(std::move(request), std::move(response));
                             });
  if (!server) return std::unexpected(server.error());
  server_ = std::move(*server);
  return {};
}

void Shard::run() {
  text_.run();
  tools_.run();
  topology_.run();
}

void Shard::drain() {
  draining_ = true;
  topology_.leave();
  server_->stop_accepting();
}

void Shard::retire() {
  topology_.leave();
  server_->stop_accepting(kIdleGrace);
}

void Shard::give_up() {
  text_.give_up();
  tools_.give_up();
  // Their threads may be busy for longer than there is time.
  for (const auto& incoming : std::exchange(reading_, {})) incoming->end(shutting_down());
  driver_.cancel_all();
}

ShardHealth Shard::health() const {
  return {.can_serve = driver_.can_serve(),
          .draining = draining_,
          .controller_answers = topology_.connected(),
          .topology_revision = topology_.revision(),
          .in_flight = std::llround(answer_metrics_.in_flight.value()),
          .gateways = topology_.gateways(),
          .connections = server_->connections(),
          .idle = driver_.in_flight() == 0 && answer_metrics_.in_flight.value() == 0 &&
                  server_->connections() == 0};
}

Metrics::Snapshot Shard::metrics() {
  door_metrics_.open.set(server_->connections());
  const auto refused = static_cast<double>(server_->connections_refused());
  door_metrics_.refused.add(refused - door_metrics_.refused.value());
  for (const auto& [status, count] : server_->requests_refused()) {
    const Counter told =
        metrics_.counter("pdserve_http_refused_total", "requests that were no request to serve",
                         {{"status", std::to_string(status)}});
    told.add(static_cast<double>(count) - told.value());
  }
  return metrics_.snapshot();
}

void Shard::handle(net::HttpRequest request, net::HttpResponse response) {
  const std::string_view path = request.path();
  if (request.method == "POST") {
    if (path == "/v1/chat/completions")
      return handle_generation(ApiRequest::Kind::kChat, std::move(request), std::move(response));
    if (path == "/v1/completions")
      return handle_generation(ApiRequest::Kind::kCompletion, std::move(request),
                               std::move(response));
    const bool tokenizing = path == "/tokenize";
    if (tokenizing || path == "/detokenize")
      return handle_text(std::move(request), std::move(response), tokenizing);
  }
  answer_at_once(request, std::move(response));
}

// What needs no work of an instance or of a tokenizer.
void Shard::answer_at_once(const net::HttpRequest& request, net::HttpResponse response) {
  const std::string_view path = request.path();
  std::vector<net::Header> headers;
  if (path.starts_with("/v1/")) headers.emplace_back("x-request-id", to_string(next_id()));
  const auto get = [&](std::string_view type, const std::string& body) {
    if (request.method != "GET" && request.method != "HEAD")
      return refuse_method(response, request, "GET, HEAD", headers);
    response.send(200, type, body, headers);
  };
  if (path == "/v1/chat/completions" || path == "/v1/completions" || path == "/tokenize" ||
      path == "/detokenize")
    return refuse_method(response, request, "POST", headers);
  if (path.starts_with("/v1/")) {
    if (const auto caller = access_.authenticate(request); !caller)
      return refuse(response, caller.error(), headers);
  }
  if (path == "/v1/models")
    return get("application/json",
               nlohmann::json{{"object", "list"}, {"data", {model_json()}}}.dump());
  constexpr std::string_view kOfModels = "/v1/models/";
  if (path.starts_with(kOfModels)) {
    const std::string name = net::percent_decoded(path.substr(kOfModels.size()));
    if (name == options_.model_name) return get("application/json", model_json().dump());
    return refuse(response,
                  {404, "invalid_request_error",
                   fmt::format("The model '{}' does not exist; this server has '{}'",
                               protocol::shortened(name), options_.model_name),
                   "model", "model_not_found"},
                  headers);
  }
  if (path == "/metrics" || path == "/health") {
    if (request.method != "GET" && request.method != "HEAD")
      return refuse_method(response, request, "GET, HEAD");
    return path == "/metrics" ? send_metrics(std::move(response))
                              : send_health(std::move(response));
  }
  refuse(response, not_found(request), headers);
}

nlohmann::json Shard::model_json() const {
  return {{"id", options_.model_name},
          {"object", "model"},
          {"created", options_.created},
          {"owned_by", "pdserve"},
          {"max_model_len", prepare_.context_max.tokens.value()}};
}

void Shard::send_metrics(net::HttpResponse response) {
  siblings_.gather<Metrics::Snapshot>(
      loop_, [](Shard& shard) { return shard.metrics(); },
      [this, response](std::vector<Metrics::Snapshot> all) mutable {
        all.push_back(context_.common_metrics->snapshot());
        response.send(200, "text/plain; version=0.0.4", Metrics::text(all));
      });
}

void Shard::send_health(net::HttpResponse response) {
  siblings_.gather<ShardHealth>(
      loop_, [](Shard& shard) { return shard.health(); },
      [response](const std::vector<ShardHealth>& all) mutable {
        ShardHealth whole = all.front();
        for (const ShardHealth& one : std::span(all).subspan(1)) {
          whole.can_serve &= one.can_serve;
          whole.draining |= one.draining;
          whole.controller_answers &= one.controller_answers;
          whole.topology_revision = std::min(whole.topology_revision, one.topology_revision);
          whole.in_flight += one.in_flight;
          whole.gateways = std::max(whole.gateways, one.gateways);
        }
        const bool ready = whole.can_serve && !whole.draining;
        response.send(ready ? 200 : 503, "application/json",
                      nlohmann::json{{"status", whole.draining    ? "draining"
                                                : whole.can_serve ? "ok"
                                                                  : "no instances"},
                                     {"requests_in_flight", whole.in_flight},
                                     {"topology_revision", whole.topology_revision},
                                     {"gateways", whole.gateways},
                                     {"controller_answers", whole.controller_answers}}
                          .dump());
      });
}

void Shard::handle_generation(ApiRequest::Kind kind, net::HttpRequest request,
                              net::HttpResponse response) {
  std::string id(kind == ApiRequest::Kind::kChat ? "chatcmpl-" : "cmpl-");
  id += to_string(next_id());
  const auto incoming = std::make_shared<Incoming>(answer_context_, kind, arrival_of(request, id),
                                                   std::move(response));
  if (draining_) return incoming->end(shutting_down());
  auto caller = access_.authenticate(request);
  if (!caller) return incoming->end(caller.error());
  if (!incoming->admit(std::move(*caller))) return;
  if (incoming->arrival().body > kPreparedAtOnce) return read(incoming, std::move(request.body));
  answer(*incoming,
         prepare(kind, request.body, prepare_, unix_seconds(), incoming->arrival().caller.salt));
}

void Shard::read(const std::shared_ptr<Incoming>& incoming, std::string body) {
  const Arrival& arrival = incoming->arrival();
  reading_.insert(incoming);
  incoming->wait(arrival.received + options_.ttft_limit, too_many_texts());
  const auto work = [this, incoming, kind = incoming->kind(), salt = arrival.caller.salt,
                     context = prepare_,  // which may change meanwhile
                     text = std::make_shared<std::string>(std::move(body))](bool go) {
    auto prepared = std::make_shared<protocol::ApiResult<PreparedRequest>>(
        go ? prepare(kind, *text, context, unix_seconds(), salt)
           : std::unexpected(shutting_down()));
    loop_.post([this, incoming, prepared] {
      reading_.erase(incoming);
      answer(*incoming, std::move(*prepared));
    });
  };
  if (text_.submit(arrival.caller.tenant, arrival.body, incoming->wanted(), work)) return;
  reading_.erase(incoming);
  incoming->end(too_many_texts());
}

void Shard::answer(Incoming& incoming, protocol::ApiResult<PreparedRequest> prepared) {
  if (incoming.over()) return;
  if (!prepared) return incoming.end(prepared.error());
  Tokens prompts;
  for (const auto& prompt : prepared->prompts)
    prompts += Tokens(static_cast<std::int64_t>(prompt->size()));
  if (!incoming.admit_tokens(prompts)) return;
  protocol::AnswerIdentity identity;
  identity.kind = incoming.kind();
  identity.id = incoming.arrival().id;
  identity.model = options_.model_name;
  identity.created = unix_seconds();
  const Time received = incoming.arrival().received;
  const auto running =
      std::make_shared<Answer>(answer_context_, std::move(*prepared), std::move(identity),
                               incoming.pass_on(), incoming.arrival());
  running->start([this] { return next_id(); }, [this] { return rng_.next(); },
                 {received + options_.ttft_limit, received + options_.request_limit});
}

struct Shard::TextQuestion {
  Arrival arrival;
  net::HttpResponse response;
  bool tokenizing = true;
};

void Shard::handle_text(net::HttpRequest request, net::HttpResponse response, bool tokenizing) {
  auto caller = access_.authenticate(request);
  if (!caller) return refuse(response, caller.error());
  TextQuestion question{arrival_of(request, to_string(next_id())), response, tokenizing};
  Arrival& arrival = question.arrival;
  arrival.caller = std::move(*caller);
  arrival.admitted = loop_.now();
  if (const auto refusal = access_.admit(arrival.caller, arrival.body, arrival.admitted)) {
    std::vector<net::Header> headers = access_.headers(arrival.caller, loop_.now());
    headers.push_back(retry_after(refusal->retry_after));
    return refuse(response, refusal->error, headers);
  }
  auto wanted = std::make_shared<std::atomic<bool>>(true);
  response.on_close([wanted] { *wanted = false; });
  const auto work = [this, question, context = prepare_,
                     body = std::make_shared<std::string>(std::move(request.body))](bool go) {
    auto result = std::make_shared<protocol::ApiResult<std::string>>(
        !go                   ? std::unexpected(shutting_down())
        : question.tokenizing ? tokenize(*body, context, unix_seconds())
                              : detokenize(*body, context));
    loop_.post([this, result, question] { answer_text(question, *result); });
  };
  if (!tools_.submit(arrival.caller.tenant, arrival.body, wanted, work))
    answer_text(question, std::unexpected(too_many_texts()));
}

void Shard::answer_text(const TextQuestion& question,
                        const protocol::ApiResult<std::string>& result) {
  const Arrival& arrival = question.arrival;
  const Time now = loop_.now();
  access_.release(arrival.caller, arrival.admitted, now);
  if (!result) access_.refund(arrival.caller, result.error().status, arrival.body, {}, now);
  std::vector<net::Header> headers = access_.headers(arrival.caller, now);
  net::HttpResponse response = question.response;
  if (result) return response.send(200, "application/json", *result, headers);
  if (result.error().status == 429) headers.push_back(retry_after(Duration{}));
  refuse(response, result.error(), headers);
}

}  // namespace pd::gateway
