#include "controller/controller.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.h"
#include "base/text.h"

namespace pd::controller {
namespace {

constexpr Duration kLongPoll = std::chrono::seconds(10);
constexpr Duration kStartingPoll = std::chrono::milliseconds(50);  // set-up waits for these answers
constexpr Duration kStatusLimit = std::chrono::seconds(2);

// The value of a parameter of the query; empty: it has none.
std::string_view query_value(std::string_view target, std::string_view name) {
  const auto query = target.find('?');
  if (query == std::string_view::npos) return {};
  std::string_view rest = target.substr(query + 1);
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    if (pair.starts_with(name) && pair.size() > name.size() && pair[name.size()] == '=')
      return pair.substr(name.size() + 1);
  }
  return {};
}

template <typename T>
T query_number(std::string_view target, std::string_view name) {
  T value = 0;
  const std::string_view digits = query_value(target, name);
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

}  // namespace

Result<std::unique_ptr<Controller>> Controller::create(net::EventLoop& loop,
                                                       store::ClusterStore& store,
                                                       ControllerOptions options) {
  std::unique_ptr<Controller> controller(new Controller(loop, store, std::move(options)));
  if (auto claimed = controller->claim(); !claimed) return std::unexpected(claimed.error());
  auto server = net::HttpServer::create(
      loop, controller->options_.http,
      [raw = controller.get()](net::HttpRequest request, net::HttpResponse response) {
        raw->handle(std::move(request), std::move(response));
      });
  if (!server) return std::unexpected(server.error());
  controller->server_ = std::move(*server);
  loop.post([raw = controller.get()] { raw->pump(); });
  return controller;
}

Controller::Controller(net::EventLoop& loop, store::ClusterStore& store, ControllerOptions options)
    : loop_(loop),
      store_(store),
      options_(std::move(options)),
      rng_(options_.seed),
      http_(loop),
      presence_({}, loop.now()) {}

Controller::~Controller() {
  for (auto& [id, worker] : workers_) {
    if (worker.call) http_.cancel(*worker.call);
    if (worker.timer) loop_.cancel(*worker.timer);
  }
  for (auto& [key, poll] : polls_) loop_.cancel(poll.timer);
  if (timer_) loop_.cancel(*timer_);
  if (presence_timer_) loop_.cancel(*presence_timer_);
}

// Takes over: a new fence, and ids that no earlier controller gave.
Status Controller::claim() {
  const auto number = [this](std::string_view key) -> Result<std::uint64_t> {
    auto entry = store_.get(key);
    if (!entry) return std::unexpected(entry.error());
    std::uint64_t value = 0;
    if (*entry)
      std::from_chars((*entry)->value.data(), (*entry)->value.data() + (*entry)->value.size(),
                      value);
    return value;
  };
  const auto fence = number("controller/fence");
  if (!fence) return std::unexpected(fence.error());
  const auto next_id = number("group/next_id");
  if (!next_id) return std::unexpected(next_id.error());
  topology_.fence = *fence + 1;
  if (auto written = store_.commit({{"controller/fence", std::to_string(topology_.fence), {}}});
      !written) {
    return std::unexpected(written.error());
  }
  group_ = std::make_unique<policy::Group>(options_.group,
                                           WorkerId(std::max<std::uint64_t>(1, *next_id)));
  return {};
}

Status Controller::persist_next_id() {
  auto written = store_.commit({{"group/next_id", std::to_string(group_->next_id().value()), {}}});
  if (!written) return std::unexpected(written.error());
  return {};
}

// ---- HTTP ----

void Controller::handle(net::HttpRequest request, net::HttpResponse response) {
  const std::string path(request.path());
  if (path == "/health/live") return response.send(200, "application/json", "{\"live\":true}");
  if (request.header("authorization") != "Bearer " + options_.secret) {
    return response.send(401, "application/json", R"({"error":"denied"})");
  }
  if (path == "/cluster/v1/register" && request.method == "POST")
    return handle_register(request, response);
  if (path == "/cluster/v1/topology" && request.method == "GET")
    return handle_topology(request, std::move(response));
  if (path == "/cluster/v1/status" && request.method == "GET")
    return response.send(200, "application/json", status_json());
  if (path == "/metrics") return response.send(200, "text/plain; version=0.0.4", metrics_.text());
  response.send(404, "application/json", R"({"error":"no such verb"})");
}

void Controller::handle_register(const net::HttpRequest& request, net::HttpResponse& response) {
  auto registration = protocol::parse_registration(request.body);
  if (!registration) return response.send(400, "text/plain", registration.error().message);
  const auto it = workers_.find(registration->id);
  if (it == workers_.end())
    return response.send(409, "text/plain", "this controller did not start such an instance");
  auto address = net::parse_address(registration->address);
  if (!address) return response.send(400, "text/plain", address.error().message);
  it->second.address = *address;
  it->second.registration = std::move(*registration);
  response.send(200, "application/json", "{}");
  group_->on_registered(it->first, it->second.registration->boot, loop_.now());
  poll_worker(it->first);
  pump();
}

void Controller::handle_topology(const net::HttpRequest& request, net::HttpResponse response) {
  const std::string_view target = request.target;
  const std::uint64_t key = next_key_++;
  LongPoll poll{.response = response,
                .timer = loop_.call_at(loop_.now() + kLongPoll, [this, key] { answer(key, 304); }),
                .gateway = from_hex(query_value(target, "gateway")),
                .gateways_known = query_number<int>(target, "gateways")};
  if (poll.gateway) presence_.on_ask(*poll.gateway, loop_.now());
  response.on_close([this, key] { answer(key, 304); });
  polls_.emplace(key, std::move(poll));
  count_gateways();
  const bool news = query_number<std::uint64_t>(target, "fence") != topology_.fence ||
                    query_number<std::uint64_t>(target, "after") != topology_.revision;
  if (news) return answer(key, 200);
  // It may have been answered already, as one of all.
  const auto mine = polls_.find(key);
  if (mine != polls_.end() && mine->second.gateway && topology_.gateways > 0 &&
      mine->second.gateways_known != topology_.gateways)
    answer(key, 200);
}

void Controller::answer(std::uint64_t key, int status) {
  const auto it = polls_.find(key);
  if (it == polls_.end()) return;
  LongPoll poll = std::move(it->second);
  polls_.erase(it);
  loop_.cancel(poll.timer);
  poll.response.send(status, "application/json", status == 200 ? to_json(topology_) : "");
  if (!poll.gateway) return;
  presence_.on_end(*poll.gateway, loop_.now());
  count_gateways();
}

void Controller::answer_polls(const std::function<bool(const LongPoll&)>& which) {
  std::vector<std::uint64_t> keys;
  for (const auto& [key, poll] : polls_) {
    if (which(poll)) keys.push_back(key);
  }
  for (const std::uint64_t key : keys) answer(key, 200);
}

// Each gateway takes its share of the tenants' limits: a new number goes to all of them at once.
void Controller::count_gateways() {
  const bool changed = presence_.poll(loop_.now());
  if (presence_timer_) loop_.cancel(*std::exchange(presence_timer_, std::nullopt));
  if (const auto next = presence_.next_deadline()) {
    presence_timer_ = loop_.call_at(*next, [this] {
      presence_timer_.reset();
      count_gateways();
    });
  }
  if (!changed) return;
  topology_.gateways = presence_.count();
  log::info("gateways: {}", topology_.gateways);
  answer_polls([this](const LongPoll& poll) {
    return poll.gateway && poll.gateways_known != topology_.gateways;
  });
}

std::string Controller::status_json() const {
  nlohmann::json instances = nlohmann::json::array();
  for (const auto& [id, instance] : group_->instances()) {
    nlohmann::json entry{{"id", id.value()},
                         {"role", protocol::to_string(instance.role)},
                         {"state", policy::to_string(instance.state)},
                         {"boot", to_hex(instance.boot.value())},
                         {"trouble", instance.trouble}};
    if (const auto worker = workers_.find(id); worker != workers_.end()) {
      if (worker->second.process) entry["pid"] = worker->second.process->pid();
      if (worker->second.registration) entry["address"] = worker->second.registration->address;
      if (worker->second.status)
        entry["status"] = nlohmann::json::parse(to_json(*worker->second.status));
    }
    instances.push_back(std::move(entry));
  }
  return nlohmann::json{{"fence", topology_.fence},         {"revision", topology_.revision},
                        {"complete", group_->complete()},   {"substitutes", group_->substitutes()},
                        {"last_trouble", last_trouble_},    {"gateways", topology_.gateways},
                        {"instances", std::move(instances)}}
      .dump();
}

// ---- what the group wants ----

void Controller::pump() {
  pump_again_ = true;
  if (pumping_ || stopped_) return;
  pumping_ = true;
  while (std::exchange(pump_again_, false)) {
    for (const policy::GroupAction& action : group_->poll(loop_.now())) {
      std::visit([this](const auto& what) { act(what); }, action);
    }
  }
  pumping_ = false;
  const auto next = group_->next_deadline();
  if (next == timer_at_) return;
  if (timer_) loop_.cancel(*timer_);
  timer_.reset();
  timer_at_ = next;
  if (!next) return;
  timer_ = loop_.call_at(*next, [this] {
    timer_.reset();
    timer_at_.reset();
    pump();
  });
}

void Controller::act(const policy::StartInstance& action) {
  if (auto kept = persist_next_id(); !kept) log::error("{}", kept.error().message);
  launch::ProcessSpec spec;
  spec.argv = options_.worker_argv;
  spec.argv.insert(spec.argv.end(), {"--id", std::to_string(action.id.value()), "--controller",
                                     fmt::format("{}:{}", options_.http.host, server_->port())});
  if (options_.lifeline) {
    spec.die_with_parent = false;
    spec.keep_open = {*options_.lifeline};
    spec.argv.insert(spec.argv.end(), {"--lifeline", std::to_string(*options_.lifeline)});
  }
  Worker& worker = workers_[action.id];
  worker.log_file = options_.log_directory / fmt::format("worker-{}.log", action.id.value());
  spec.log_file = worker.log_file;
  auto process = launch::Process::start(spec);
  if (process) {
    worker.process = std::move(*process);
    auto watch = net::FdWatch::create(loop_, worker.process->exit_fd(),
                                      {[this, id = action.id] { on_exit(id); }, nullptr, nullptr});
    if (watch) {
      worker.exit_watch = std::move(*watch);
      worker.exit_watch.arm_readable();
      log::info("instance {} ({}): started, pid {}", action.id.value(),
                protocol::to_string(action.role), worker.process->pid());
      return;
    }
    process = std::unexpected(watch.error());
  }
  log::error("instance {}: {}", action.id.value(), process.error().message);
  forget(action.id);
  group_->on_exited(action.id, process.error().message, loop_.now());
  pump_again_ = true;
}

void Controller::on_exit(WorkerId id) {
  const auto it = workers_.find(id);
  if (it == workers_.end() || !it->second.process) return;
  const auto ended = it->second.process->poll();
  if (!ended) return it->second.exit_watch.arm_readable();
  const std::string how = to_string(*ended);
  if (ended->clean() || stopped_) {
    log::info("instance {}: ended", id.value());
  } else {
    log::warn("instance {}: {}; its last words: {}", id.value(), how,
              launch::tail_of(it->second.log_file, 400));
    if (!was_complete_ && last_trouble_.empty())
      last_trouble_ = how + ": " + launch::tail_of(it->second.log_file, 400);
  }
  forget(id);
  group_->on_exited(id, how, loop_.now());
  if (stopped_ && workers_.empty()) return stopped_();
  pump();
}

void Controller::forget(WorkerId id) {
  const auto it = workers_.find(id);
  if (it == workers_.end()) return;
  if (it->second.call) http_.cancel(*it->second.call);
  if (it->second.timer) loop_.cancel(*it->second.timer);
  workers_.erase(it);
}

net::HttpCall Controller::call_to(const Worker& worker, const char* method, const char* target,
                                  std::string body) const {
  net::HttpCall call;
  call.address = *worker.address;
  call.method = method;
  call.target = target;
  call.headers = {{"authorization", "Bearer " + options_.secret}};
  call.body = std::move(body);
  call.read_timeout = kStatusLimit;
  return call;
}

void Controller::act(const policy::AssignRole& action) {
  Worker& worker = workers_.at(action.id);
  protocol::Assignment message;
  message.role = action.role;
  message.fence = topology_.fence;
  for (const WorkerId peer : action.peers) {
    const auto it = workers_.find(peer);
    if (it == workers_.end() || !it->second.registration) continue;
    message.peers.push_back({it->second.registration->boot, it->second.registration->transport});
  }
  log::info("instance {}: becomes {}", action.id.value(), protocol::to_string(action.role));
  http_.fetch(call_to(worker, "POST", "/control/v1/assign", to_json(message)),
              [this, id = action.id](Result<net::HttpClient::Whole> answer) {
                if (answer && answer->status == 200) return;
                const std::string why =
                    answer ? fmt::format("HTTP {}: {}", answer->status, answer->body)
                           : answer.error().message;
                log::warn("instance {}: refuses its role: {}", id.value(), why);
                if (const auto it = workers_.find(id); it != workers_.end() && it->second.process)
                  it->second.process->kill();
              });
}

void Controller::act(const policy::WarmUp& action) {
  const auto finish = [this, action](const Status& status) {
    if (!status)
      log::warn("warm-up of {} and {}: {}", action.prefill.value(), action.decode.value(),
                status.error().message);
    const auto result = status ? policy::WarmUpResult::kOk
                        : status.error().code == ErrorCode::kNoCapacity
                            ? policy::WarmUpResult::kBusy
                            : policy::WarmUpResult::kFailed;
    group_->on_warm(action.prefill, action.decode, result, status ? "" : status.error().message,
                    loop_.now());
    pump();
  };
  const auto prefill = workers_.find(action.prefill), decode = workers_.find(action.decode);
  if (prefill == workers_.end() || decode == workers_.end() || !prefill->second.status) {
    return loop_.post([finish] { finish(error(ErrorCode::kUnavailable, "one of them has gone")); });
  }
  WarmUpPlan plan{{rng_.next(), rng_.next()},
                  *prefill->second.address,
                  *decode->second.address,
                  prefill->second.status->layout_hash,
                  options_.secret};
  const std::uint64_t key = next_key_++;
  auto run = std::make_shared<WarmUpRun>(loop_, http_, std::move(plan),
                                         [this, key, finish](const Status& status) {
                                           warm_ups_.erase(key);
                                           finish(status);
                                         });
  warm_ups_.emplace(key, run);
  run->start();
}

void Controller::act(const policy::StopInstance& action) {
  const auto it = workers_.find(action.id);
  if (it == workers_.end() || !it->second.process) return;
  log::warn("instance {}: stopped: {}", action.id.value(), action.why);
  if (!was_complete_) last_trouble_ = action.why;
  it->second.process->kill();  // it is faulty: nothing it could still say would be believed
}

void Controller::act(const policy::PublishMembers&) {
  topology_.instances.clear();
  for (const WorkerId id : group_->members()) {
    const Worker& worker = workers_.at(id);
    const protocol::WorkerStatus& status = *worker.status;
    topology_.layout_hash = status.layout_hash;
    topology_.instances.push_back({id, worker.registration->boot, worker.registration->address,
                                   status.role, status.slots, status.batch_places, true,
                                   Tokens(status.blocks_total * status.block_tokens)});
  }
  ++topology_.revision;
  if (group_->complete()) {
    was_complete_ = true;
    last_trouble_.clear();
  }
  log::info("topology {}: {} instances{}", topology_.revision, topology_.instances.size(),
            group_->complete() ? ", the group is complete" : "");
  answer_polls([](const LongPoll&) { return true; });
}

// ---- health ----

void Controller::poll_worker(WorkerId id) {
  const auto it = workers_.find(id);
  if (it == workers_.end() || it->second.call || !it->second.address) return;
  if (it->second.timer) loop_.cancel(*std::exchange(it->second.timer, std::nullopt));
  it->second.call =
      http_.fetch(call_to(it->second, "GET", "/control/v1/status", ""),
                  [this, id](Result<net::HttpClient::Whole> answer) {
                    const auto found = workers_.find(id);
                    if (found == workers_.end()) return;
                    found->second.call.reset();
                    on_status(id, answer);
                    // The instance may be gone by now.
                    const auto again = workers_.find(id);
                    const auto instance = group_->instances().find(id);
                    if (again == workers_.end() || instance == group_->instances().end()) return;
                    const bool settled = instance->second.state == policy::InstanceState::kServing;
                    again->second.timer = loop_.call_at(
                        loop_.now() + (settled ? options_.poll_every : kStartingPoll), [this, id] {
                          if (const auto w = workers_.find(id); w != workers_.end())
                            w->second.timer.reset();
                          poll_worker(id);
                        });
                  });
}

void Controller::on_status(WorkerId id, const Result<net::HttpClient::Whole>& answer) {
  if (!answer || answer->status != 200) return;  // silence: the group's own clock judges it
  auto status = protocol::parse_worker_status(answer->body);
  if (!status) {
    log::warn("instance {}: {}", id.value(), status.error().message);
    return;
  }
  workers_.at(id).status = *status;
  group_->on_report(id,
                    {status->boot, status->loaded, status->ready, status->trouble, status->fatal},
                    loop_.now());
  pump();
}

void Controller::stop(Duration limit, std::function<void()> done) {
  stopped_ = std::move(done);
  if (workers_.empty()) return loop_.post(stopped_);
  for (auto& [id, worker] : workers_) {
    if (worker.process) worker.process->terminate();
  }
  loop_.call_at(loop_.now() + limit, [this] {
    for (auto& [id, worker] : workers_) {
      if (worker.process) worker.process->kill();
    }
  });
}

}  // namespace pd::controller
