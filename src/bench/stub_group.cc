#include "bench/stub_group.h"

#include <fmt/format.h>

#include <utility>

namespace pd::bench {
namespace {

// A gateway gives a poll 20 s.
constexpr Duration kLongPoll = std::chrono::seconds(10);

}  // namespace

Result<std::unique_ptr<StubGroup>> StubGroup::create(net::EventLoop& loop, int prefill, int decode,
                                                     std::uint16_t port,
                                                     const StubOptions& worker) {
  std::unique_ptr<StubGroup> group(new StubGroup(loop));
  group->topology_.revision = 1;
  group->topology_.fence = 1;
  group->topology_.layout_hash = 1;
  for (int i = 0; i < prefill + decode; ++i) {
    auto added = group->add(i < prefill ? Role::kPrefill : Role::kDecode, worker);
    if (!added) return std::unexpected(added.error());
  }
  auto server = net::HttpServer::create(
      loop, {.host = worker.host, .port = port},
      [raw = group.get()](const net::HttpRequest& request, net::HttpResponse response) {
        raw->handle(request, std::move(response));
      });
  if (!server) return std::unexpected(server.error());
  group->server_ = std::move(*server);
  return group;
}

StubGroup::~StubGroup() = default;

Status StubGroup::add(Role role, const StubOptions& options) {
  auto worker = StubWorker::create(loop_, handoffs_, options);
  if (!worker) return std::unexpected(worker.error());
  const std::uint64_t number = workers_.size() + 1;
  protocol::Instance instance;
  instance.id = WorkerId(number);
  instance.boot = BootId(number);
  instance.address = fmt::format("{}:{}", options.host, (*worker)->port());
  instance.role = role;
  instance.slots = role == Role::kPrefill ? options.slots : 0;
  instance.batch_places = role == Role::kDecode ? options.places : 0;
  topology_.instances.push_back(std::move(instance));
  workers_.push_back(std::move(*worker));
  return {};
}

std::size_t StubGroup::held() const {
  std::size_t sum = 0;
  for (const auto& worker : workers_) sum += worker->held();
  return sum;
}

// The topology never changes: who has it already waits as long as a poll may.
void StubGroup::handle(const net::HttpRequest& request, net::HttpResponse response) {
  if (request.path() != "/cluster/v1/topology")
    return response.send(404, "application/json", R"({"error":"no such verb"})");
  const std::string known = fmt::format("?after={}&fence={}", topology_.revision, topology_.fence);
  if (!request.target.contains(known))
    return response.send(200, "application/json", to_json(topology_));
  loop_.call_at(loop_.now() + kLongPoll,
                [response]() mutable { response.send(304, "application/json", ""); });
}

}  // namespace pd::bench
