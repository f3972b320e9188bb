// One event loop's share of a gateway: its doors, dispatcher, legs, answers and metrics. Reads and
// parses each body once, hands the request to the dispatcher, relays what comes back; tokenization
// runs beside the loop on threads of its own. To the instances each shard is a gateway. Shards
// share what is in ShardContext and nothing else. Loop thread only, but for the constructor,
// open_doors() and the destructor, which belong to times when the loop does not run.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/result.h"
#include "base/rng.h"
#include "base/unique_fd.h"
#include "gateway/access.h"
#include "gateway/access_log.h"
#include "gateway/answer.h"
#include "gateway/gateway_options.h"
#include "gateway/incoming.h"
#include "gateway/leg_driver.h"
#include "gateway/prepare.h"
#include "gateway/request_book.h"
#include "gateway/text_worker.h"
#include "gateway/topology_watch.h"
#include "net/event_loop.h"
#include "net/http_client.h"
#include "net/http_server.h"

namespace pd::gateway {

class Shards;

// Outlives the shards; from any thread.
struct ShardContext {
  const model::Model* model = nullptr;
  const GatewayOptions* options = nullptr;
  const Metrics* common_metrics = nullptr;  // of what belongs to no shard
  Access* access = nullptr;
  AccessLog* access_log = nullptr;        // null: none
  std::function<void()> instances_known;  // once by each shard: it knows whom to ask
};

// What a shard says of itself to a question about the whole gateway.
struct ShardHealth {
  bool can_serve = false;
  bool draining = false;
  bool controller_answers = false;
  std::uint64_t topology_revision = 0;
  std::int64_t in_flight = 0;
  int gateways = 0;
  int connections = 0;
  bool idle = false;  // nothing in flight, and every client has its bytes
};

class Shard {
 public:
  // `number`: among the shards of this gateway, which `siblings` are, this one too.
  Shard(net::EventLoop& loop, const ShardContext& context, Shards& siblings, int number);
  ~Shard();
  Status open_doors(std::vector<UniqueFd> listeners, const net::HttpServerOptions& options);

  std::uint16_t port() const { return server_->port(); }

  void run();  // follows the topology
  void start_accepting() { server_->start_accepting(); }
  void use_tls(const CertificateFiles::Context& tls) { server_->use_tls(tls); }
  void set_weight(policy::TenantId tenant, double weight) { driver_.set_weight(tenant, weight); }

  // No new requests: who still sends one is sent elsewhere.
  void drain();
  // Another process has the listening sockets: what comes on connections that stand is served.
  void retire();
  void give_up();  // ends what is still in flight with an error that says so
  // A text that nobody may wait for any more is still being worked on. Any thread.
  bool reads_text() const { return text_.working() || tools_.working(); }

  ShardHealth health() const;
  Metrics::Snapshot metrics();
  const RequestBook& book() const { return book_; }

 private:
  struct DoorMetrics {
    explicit DoorMetrics(Metrics& metrics);
    Gauge open;
    Counter refused;
  };
  // A question about text, of /tokenize or /detokenize.
  struct TextQuestion;
  void handle(net::HttpRequest request, net::HttpResponse response);
  void answer_at_once(const net::HttpRequest& request, net::HttpResponse response);
  void handle_generation(protocol::ApiRequest::Kind kind, net::HttpRequest request,
                         net::HttpResponse response);
  void bound_context(Tokens kv_max);
  void read(const std::shared_ptr<Incoming>& incoming, std::string body);
  void answer(Incoming& incoming, protocol::ApiResult<PreparedRequest> prepared);
  void handle_text(net::HttpRequest request, net::HttpResponse response, bool tokenizing);
  void answer_text(const TextQuestion& question, const protocol::ApiResult<std::string>& result);
  void send_metrics(net::HttpResponse response);
  void send_health(net::HttpResponse response);
  nlohmann::json model_json() const;
  RequestId next_id() { return {rng_.next(), rng_.next()}; }

  net::EventLoop& loop_;
  ShardContext context_;
  const GatewayOptions& options_;
  Access& access_;
  Shards& siblings_;
  Metrics metrics_;
  AnswerMetrics answer_metrics_;
  DoorMetrics door_metrics_;
  RequestBook book_;
  Rng rng_;
  PrepareContext prepare_;
  net::HttpClient http_;
  LegDriver driver_;
  const AnswerContext answer_context_;
  TopologyWatch topology_;
  std::unique_ptr<net::HttpServer> server_;
  // Bodies of /tokenize and /detokenize may take seconds: no request for an answer waits for them.
  TextWorker text_, tools_;
  std::set<std::shared_ptr<Incoming>> reading_;  // their texts are with a thread
  bool draining_ = false;
  bool instances_known_ = false;
};

}  // namespace pd::gateway
