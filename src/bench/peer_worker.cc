#include "bench/peer_worker.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <optional>
#include <string_view>
#include <utility>

#include "base/text.h"

namespace pd::bench {
namespace {

using Kind = NumberedTokens::Kind;

constexpr std::uint32_t kCountDefault = 16;  // as OpenAI's for completions

void refuse(net::HttpResponse& response, std::string_view why) {
  response.send(400, "application/json", fmt::format(R"({{"error":{{"message":"{}"}}}})", why));
}

// What is absent or of another type is `otherwise`: the routers are believed.
template <typename Value>
Value field(const simdjson::dom::object& object, std::string_view name, Value otherwise) {
  Value value{};
  return object[name].get(value) == simdjson::SUCCESS ? value : otherwise;
}

}  // namespace

void PeerHandoffs::meet(std::uint64_t room, Role role, std::function<void()> go_on) {
  auto other = rooms_.extract(room);
  if (other.empty() || other.mapped().role == role) {
    rooms_.insert_or_assign(room, Half{role, std::move(go_on)});
    return;
  }
  const bool second_is_prefill = role == Role::kPrefill;
  const std::function<void()>& first = other.mapped().go_on;
  (second_is_prefill ? go_on : first)();
  (second_is_prefill ? first : go_on)();
}

void PeerHandoffs::leave(std::uint64_t room, Role role) {
  const auto it = rooms_.find(room);
  if (it != rooms_.end() && it->second.role == role) rooms_.erase(it);
}

std::uint64_t PeerHandoffs::hold() {
  held_.insert(++last_key_);
  return last_key_;
}

struct PeerWorker::Generation {
  WantedAnswer wanted;
  std::optional<std::uint64_t> room;
  bool remote_decode = false;
  bool remote_prefill = false;
  std::optional<std::uint64_t> key;  // of what P holds

  static std::optional<Generation> parse(Kind kind, std::string_view body);
};

std::optional<PeerWorker::Generation> PeerWorker::Generation::parse(Kind kind,
                                                                    std::string_view body) {
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  if (parser.parse(body.data(), body.size()).get(object) != simdjson::SUCCESS) return std::nullopt;
  Generation out;
  out.wanted.kind = kind;
  out.wanted.stream = field(object, "stream", false);
  const auto tokens = field<std::int64_t>(object, "max_tokens", kCountDefault);
  out.wanted.count = count_of(Tokens(field(object, "max_completion_tokens", tokens)));
  std::uint64_t room = 0;
  if (object["bootstrap_room"].get(room) == simdjson::SUCCESS) out.room = room;
  simdjson::dom::object transfer;
  if (object["kv_transfer_params"].get(transfer) == simdjson::SUCCESS) {
    out.remote_decode = field(transfer, "do_remote_decode", false);
    out.remote_prefill = field(transfer, "do_remote_prefill", false);
    out.key = from_hex(field<std::string_view>(transfer, "remote_engine_id", ""));
  }
  return out;
}

Result<std::unique_ptr<PeerWorker>> PeerWorker::create(net::EventLoop& loop, PeerHandoffs& handoffs,
                                                       PeerManner manner, Role role,
                                                       const std::string& model,
                                                       const StubOptions& options) {
  std::unique_ptr<PeerWorker> worker(new PeerWorker(loop, handoffs, manner, role, model, options));
  auto server = net::HttpServer::create(
      loop, {.host = options.host, .port = options.port},
      [raw = worker.get()](const net::HttpRequest& request, net::HttpResponse response) {
        raw->handle(request, std::move(response));
      });
  if (!server) return std::unexpected(server.error());
  worker->server_ = std::move(*server);
  return worker;
}

PeerWorker::PeerWorker(net::EventLoop& loop, PeerHandoffs& handoffs, PeerManner manner, Role role,
                       const std::string& model, const StubOptions& options)
    : loop_(loop),
      handoffs_(handoffs),
      manner_(manner),
      role_(role),
      options_(options),
      models_(fmt::format(
          R"({{"object":"list","data":[{{"id":"{}","object":"model","created":0,"owned_by":"stub"}}]}})",
          model)),
      info_(fmt::format(
          R"({{"model_path":"{0}","served_model_name":"{0}","tokenizer_path":"{0}","is_generation":true,)"
          R"("disaggregation_mode":"{1}","dp_size":1,"tp_size":1,"max_running_requests":4096,)"
          R"("max_req_input_len":131072,"context_length":131072,"version":"0.0.0"}})",
          model, role == Role::kPrefill ? "prefill" : "decode")),
      answers_(loop, options.pace) {}

PeerWorker::~PeerWorker() { *alive_ = false; }

void PeerWorker::handle(const net::HttpRequest& request, net::HttpResponse response) {
  const std::string_view path = request.path();
  if (request.method == "POST") {
    if (path == "/v1/chat/completions")
      return handle_generation(Kind::kChat, request, std::move(response));
    if (path == "/v1/completions")
      return handle_generation(Kind::kCompletion, request, std::move(response));
  }
  if (path == "/v1/models") return response.send(200, "application/json", models_);
  if (path == "/health" || path == "/health_generate")
    return response.send(200, "application/json", R"({"status":"ok"})");
  if (path == "/get_server_info" || path == "/server_info" || path == "/get_model_info" ||
      path == "/model_info")
    return response.send(200, "application/json", info_);
  if (path == "/get_load" || path == "/v1/loads")
    return response.send(200, "application/json", R"([{"num_reqs":0,"num_waiting_reqs":0}])");
  if (path == "/version") return response.send(200, "application/json", R"({"version":"0.0.0"})");
  response.send(404, "application/json", R"({"error":{"message":"a stub has no such path"}})");
}

void PeerWorker::after_prefill(std::function<void()> work) {
  if (options_.prefill == Duration{0}) return work();
  loop_.call_at(loop_.now() + options_.prefill, [alive = alive_, work = std::move(work)] {
    if (*alive) work();
  });
}

void PeerWorker::handle_generation(Kind kind, const net::HttpRequest& request,
                                   net::HttpResponse response) {
  const auto generation = Generation::parse(kind, request.body);
  if (!generation) return refuse(response, "the body is not a JSON object");
  if (manner_ == PeerManner::kSglang) return generate_sglang(*generation, std::move(response));
  generate_vllm(*generation, std::move(response));
}

void PeerWorker::generate_sglang(const Generation& generation, net::HttpResponse response) {
  if (!generation.room) return refuse(response, "bootstrap_room is missing");
  WantedAnswer wanted = generation.wanted;
  if (role_ == Role::kPrefill) wanted.count = 1;
  const std::uint64_t room = *generation.room;
  response.on_close([&handoffs = handoffs_, alive = alive_, room, role = role_] {
    if (*alive) handoffs.leave(room, role);
  });
  auto go_on = [this, alive = alive_, wanted, response = std::move(response)] {
    if (*alive) answers_.answer(wanted, response);
  };
  if (role_ == Role::kDecode) return handoffs_.meet(room, role_, std::move(go_on));
  after_prefill([this, room, go_on = std::move(go_on)] { handoffs_.meet(room, role_, go_on); });
}

void PeerWorker::generate_vllm(const Generation& generation, net::HttpResponse response) {
  if (role_ == Role::kDecode) {
    if (!generation.remote_prefill || !generation.key || !handoffs_.pull(*generation.key))
      return refuse(response, "kv_transfer_params names nothing that a stub holds");
    return answers_.answer(generation.wanted, std::move(response));
  }
  if (!generation.remote_decode || generation.wanted.stream || generation.wanted.count != 1)
    return refuse(response,
                  "not a prefill: do_remote_decode, one token and no stream are asked for");
  after_prefill([this, kind = generation.wanted.kind, response]() mutable {
    std::string answer = NumberedTokens::answer(kind, 1);
    answer.pop_back();  // the closing brace
    fmt::format_to(std::back_inserter(answer),
                   R"(,"kv_transfer_params":{{"do_remote_prefill":true,"do_remote_decode":false,)"
                   R"("remote_block_ids":[1,2,3],"remote_engine_id":"{}","remote_host":"{}",)"
                   R"("remote_port":5600,"tp_size":1}}}})",
                   to_hex(handoffs_.hold()), options_.host);
    response.send(200, "application/json", answer);
  });
}

}  // namespace pd::bench
