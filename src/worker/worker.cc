#include "worker/worker.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "protocol/topology.h"
#include "transfer/kv_range.h"

namespace pd::worker {
namespace {

constexpr Duration kRegisterPause = std::chrono::milliseconds(200);
constexpr protocol::Rejected kNotReady{protocol::RejectReason::kNotReady, 100'000};
constexpr Duration kDrainCheck = std::chrono::milliseconds(50);

}  // namespace

Result<std::unique_ptr<Worker>> Worker::create(net::EventLoop& loop,
                                               std::unique_ptr<transfer::KvTransport> transport,
                                               WorkerOptions options) {
  std::unique_ptr<Worker> worker(new Worker(loop, std::move(transport), std::move(options)));
  auto server = net::HttpServer::create(
      loop, worker->options_.http,
      [raw = worker.get()](net::HttpRequest request, net::HttpResponse response) {
        raw->handle(std::move(request), std::move(response));
      });
  if (!server) return std::unexpected(server.error());
  worker->server_ = std::move(*server);
  worker->transfer_.run();
  if (worker->options_.controller) worker->register_with_controller();
  return worker;
}

Worker::Worker(net::EventLoop& loop, std::unique_ptr<transfer::KvTransport> transport,
               WorkerOptions options)
    : loop_(loop),
      options_(std::move(options)),
      http_(loop),
      legs_({[this](protocol::PrefillRequest request, legs::LegReply reply) {
               prefill_ ? prefill_->handle(std::move(request), std::move(reply))
                        : reply.finish(kNotReady);
             },
             [this](protocol::DecodeRequest request, legs::LegReply reply) {
               decode_ ? decode_->handle(std::move(request), std::move(reply))
                       : reply.finish(kNotReady);
             }}),
      transfer_(std::move(transport)),
      alive_(std::make_shared<std::atomic<bool>>(true)) {
  // Notices that a D has pulled: believed only with the range's key.
  transfer_.before_run().on_notify(
      [this, alive = alive_](BootId, std::span<const std::byte> message) {
        const auto notice = protocol::decode_handoff_message(message);
        if (!notice) return;
        loop_.post([this, alive, notice = *notice] {
          if (*alive && prefill_) prefill_->on_notice(notice);
        });
      });
}

Worker::~Worker() {
  *alive_ = false;
  if (loader_.joinable()) loader_.join();
  if (timer_) loop_.cancel(*timer_);
}

// ---- verbs ----

void Worker::handle(net::HttpRequest request, net::HttpResponse response) {
  const std::string path(request.path());
  if (path.starts_with("/health/")) return handle_health(path.substr(8), response);
  if (!options_.secret.empty() && request.header("authorization") != "Bearer " + options_.secret) {
    return response.send(401, "application/json", R"({"error":"denied"})");
  }
  if (request.method == "POST") {
    if (path == "/pd/v1/renew") return handle_renew(request, response);
    if (path == "/control/v1/assign") return handle_assign(request, response);
  }
  if (request.method == "GET") {
    if (path == "/pd/v1/legs") return legs_.take(request, std::move(response));
    if (path == "/control/v1/status")
      return response.send(200, "application/json", to_json(status()));
    if (path == "/metrics") return response.send(200, "text/plain; version=0.0.4", metrics_text());
  }
  response.send(404, "application/json", R"({"error":"no such verb"})");
}

void Worker::handle_renew(const net::HttpRequest& request, net::HttpResponse& response) {
  const auto message = protocol::decode_lease_list(request.body);
  if (!message) return response.send(400, "text/plain", message.error().message);
  // A role `both` holds legs of both kinds: unknown is what neither knows.
  std::vector<protocol::AttemptId> unknown = message->held;
  const auto ask = [&unknown](auto& service) {
    if (!service) return;
    std::vector<protocol::AttemptId> left;
    service->renew(unknown, left);
    unknown = std::move(left);
  };
  ask(prefill_);
  ask(decode_);
  protocol::LeaseAnswer answer{std::move(unknown), std::nullopt};
  if (decode_) answer.room = decode_->room();
  response.send(200, "application/octet-stream", protocol::encode(answer));
}

void Worker::handle_assign(const net::HttpRequest& request, net::HttpResponse& response) {
  auto message = protocol::parse_assignment(request.body);
  if (!message) return response.send(400, "text/plain", message.error().message);
  if (assignment_ && message->fence < assignment_->fence) {
    return response.send(
        409, "text/plain",
        fmt::format("fence {} is older than {}", message->fence, assignment_->fence));
  }
  if (assignment_ && message->role != assignment_->role) {
    return response.send(409, "text/plain",
                         fmt::format("it is {} already", protocol::to_string(assignment_->role)));
  }
  if (message->role == Role::kNone)
    return response.send(400, "text/plain", "role none cannot be assigned");
  const bool first = !assignment_;
  assignment_ = std::move(*message);
  response.send(200, "application/json", "{}");
  if (first) load();
}

// Three separate answers (G6): live: this loop turns; ready: it can serve now; progress: the engine
// moves.
void Worker::handle_health(std::string_view question, net::HttpResponse& response) const {
  const protocol::WorkerStatus now = status();
  if (question == "live") return response.send(200, "application/json", R"({"live":true})");
  if (question == "ready") {
    return response.send(now.ready ? 200 : 503, "application/json",
                         nlohmann::json{{"ready", now.ready}, {"trouble", now.trouble}}.dump());
  }
  if (question == "progress") {
    return response.send(
        200, "application/json",
        nlohmann::json{{"steps", now.steps}, {"queued", now.slots_used + now.requests}}.dump());
  }
  response.send(404, "application/json", R"({"error":"ask live, ready or progress"})");
}

bool Worker::ready() const { return (prefill_ || decode_) && !draining_ && !fatal_; }

protocol::WorkerStatus Worker::status() const {
  protocol::WorkerStatus out;
  out.id = options_.id;
  out.boot = options_.boot;
  out.role = assignment_ ? assignment_->role : Role::kNone;
  out.load_fraction = load_fraction_;
  out.loaded = (prefill_ || decode_) && peers_pending_ == 0;
  out.ready = ready();
  out.draining = draining_;
  out.trouble = trouble_;
  out.fatal = fatal_;
  if (loaded_) out.layout_hash = loaded_->layout.hash();
  if (prefill_) {
    out.slots = prefill_->slots_total();
    out.slots_used = prefill_->slots_used();
    out.steps += prefill_->steps();
  }
  if (decode_) {
    out.batch_places = decode_->places();
    out.requests = decode_->requests();
    out.blocks_total = decode_->blocks_total().value();
    out.blocks_used = decode_->blocks_used().value();
    out.block_tokens = loaded_->layout.block_tokens;
    out.steps += decode_->steps();
  }
  return out;
}

// What is held is looked at when somebody asks: keeping gauges would cost every request.
std::string Worker::metrics_text() {
  const protocol::WorkerStatus now = status();
  const auto set = [this](const char* name, const char* help, double value) {
    metrics_.gauge(name, help).set(value);
  };
  if (prefill_) {
    set("pdserve_slots_in_use", "prompts held, from acceptance until their KV has left",
        now.slots_used);
    set("pdserve_slots_total", "prompts that can be held at once", now.slots);
  }
  if (decode_) {
    set("pdserve_blocks_in_use", "KV blocks reserved by requests",
        static_cast<double>(now.blocks_used));
    set("pdserve_blocks_total", "KV blocks there are", static_cast<double>(now.blocks_total));
    set("pdserve_decode_requests", "requests in the batch or about to join it", now.requests);
  }
  const Counter steps =
      metrics_.counter("pdserve_engine_steps_total", "steps of the engine: it makes progress");
  steps.add(static_cast<double>(now.steps) - steps.value());
  return metrics_.text();
}

// ---- from stateless to serving ----

void Worker::register_with_controller() {
  protocol::Registration registration{options_.id, options_.boot,
                                      fmt::format("{}:{}", options_.http.host, server_->port()),
                                      transfer_.address().blob};
  net::HttpCall call;
  call.address = *options_.controller;
  call.target = "/cluster/v1/register";
  call.headers = {{"authorization", "Bearer " + options_.secret}};
  call.body = to_json(registration);
  call.read_timeout = std::chrono::seconds(2);
  http_.fetch(std::move(call), [this](Result<net::HttpClient::Whole> answer) {
    if (answer && answer->status == 200) {
      registered_ = true;
      log::info("registered as instance {}", options_.id.value());
      return;
    }
    if (answer && answer->status < 500)
      return fail({ErrorCode::kInvalidArgument,
                   "the controller refuses the registration: " + answer->body});
    timer_ = loop_.call_at(loop_.now() + kRegisterPause, [this] {
      timer_.reset();
      register_with_controller();
    });
  });
}

void Worker::load() {
  trouble_ = "loading weights";
  loader_ = std::jthread([this, alive = alive_] {
    auto loaded = std::make_shared<Result<std::unique_ptr<LoadedModel>>>(
        LoadedModel::load(options_.model, load_fraction_));
    loop_.post([this, alive, loaded] {
      if (*alive) on_loaded(std::move(*loaded));
    });
  });
}

void Worker::on_loaded(Result<std::unique_ptr<LoadedModel>> loaded) {
  if (!loaded) return fail(loaded.error());
  loaded_ = std::move(*loaded);
  if (auto started = start_services(); !started) return fail(started.error());
  trouble_.clear();
  log::info("{}: {} with kernels {}", protocol::to_string(assignment_->role), loaded_->model->name,
            loaded_->kernels->name);
  connect_peers();
}

Status Worker::start_services() {
  if (prefills(assignment_->role)) {
    if (auto started = start_prefill(); !started) return started;
  }
  if (decodes(assignment_->role)) return start_decode();
  return {};
}

Status Worker::start_prefill() {
  const protocol::KvLayout& layout = loaded_->layout;
  const Bytes size = send_buffer_size(layout, loaded_->context_max, options_.memory) +
                     transfer::kRangeAlignment + PrefillService::warm_up_bytes(layout);
  // The transport is the transfer thread's; this waits for it once, while nothing is served yet.
  std::promise<Result<transfer::ExposedRegion>> exposed;
  auto answer = exposed.get_future();
  if (!transfer_.post([&exposed, size](transfer::KvTransport& transport) {
        exposed.set_value(transport.expose(size));
      })) {
    return error(ErrorCode::kInternal, "the transfer thread does not run");
  }
  auto region = answer.get();
  if (!region) return std::unexpected(region.error());
  region_ = *region;
  PrefillServiceOptions options;
  options.slots.slots = options_.memory.slots;
  options.chunk_tokens = options_.chunk_tokens;
  options.prefix_cache = options_.memory.prefix_cache;
  options.lease = options_.lease;
  options.threads = options_.model.threads;
  options.seed = options_.seed;
  auto service = PrefillService::create(loop_, transfer_, options_.boot, *loaded_, *region_,
                                        options, metrics_);
  if (!service) return std::unexpected(service.error());
  prefill_ = std::move(*service);
  return {};
}

Status Worker::start_decode() {
  const protocol::KvLayout& layout = loaded_->layout;
  const Bytes memory = kv_pool_size(layout, loaded_->context_max, options_.memory);
  DecodeServiceOptions options;
  options.batch = options_.memory.batch;
  options.blocks = engine::KvPool::blocks_in(layout, memory);
  if (options.blocks.value() < 1) {
    return error(
        ErrorCode::kInvalidArgument,
        fmt::format("[decode] kv_memory: {} bytes hold not a single block of {} bytes; raise it",
                    memory.value(), layout.range(Tokens(layout.block_tokens)).value()));
  }
  options.lease = options_.lease;
  options.block_fixed = options_.block_fixed;
  options.threads = options_.model.threads;
  auto service = DecodeService::create(loop_, transfer_, *loaded_, options, metrics_);
  if (!service) return std::unexpected(service.error());
  decode_ = std::move(*service);
  return {};
}

// Every peer is tried once before this instance calls itself loaded. One that does not answer is
// reported and left to the controller, which knows whether it still exists; the warm-up decides
// whether this instance may serve.
void Worker::connect_peers() {
  peers_pending_ = static_cast<int>(assignment_->peers.size());
  for (const protocol::PeerInfo& peer : assignment_->peers) {
    transfer_.post([this, alive = alive_, peer](transfer::KvTransport& transport) {
      transport.connect({peer.boot, peer.transport}, [this, alive, peer](const Status& status) {
        loop_.post([this, alive, peer, status] {
          if (!*alive) return;
          --peers_pending_;
          if (!status) log::warn("peer {}: {}", to_hex(peer.boot.value()), status.error().message);
        });
      });
    });
  }
}

void Worker::fail(const Error& error) {
  log::error("{}", error.message);
  trouble_ = error.message;
  fatal_ = true;
}

// ---- leaving ----

void Worker::drain(Duration limit, std::function<void()> done) {
  draining_ = true;
  drained_ = std::move(done);
  if (prefill_) prefill_->drain();
  if (decode_) decode_->drain();
  loop_.call_at(loop_.now() + limit, [this] {
    if (auto finished = std::exchange(drained_, nullptr)) finished();
  });
  check_drained();
}

void Worker::check_drained() {
  if (!drained_) return;
  const bool empty =
      (!prefill_ || prefill_->slots_used() == 0) && (!decode_ || decode_->requests() == 0);
  if (empty) return std::exchange(drained_, nullptr)();
  loop_.call_at(loop_.now() + kDrainCheck, [this, alive = alive_] {
    if (*alive) check_drained();
  });
}

}  // namespace pd::worker
