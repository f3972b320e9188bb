#include "gateway/topology_watch.h"

#include <fmt/format.h>

#include <utility>

#include "base/log.h"

namespace pd::gateway {
namespace {

constexpr Duration kPollLimit =
    std::chrono::seconds(20);  // the controller answers within half of it
constexpr Duration kRetryPause = std::chrono::milliseconds(300);

}  // namespace

TopologyWatch::TopologyWatch(net::EventLoop& loop, net::HttpClient& http, Source source,
                             std::function<void(const protocol::Topology&)> on_change,
                             std::function<void(int)> on_gateways)
    : loop_(loop),
      http_(http),
      source_(std::move(source)),
      on_change_(std::move(on_change)),
      on_gateways_(std::move(on_gateways)) {}

TopologyWatch::~TopologyWatch() {
  if (call_) http_.cancel(*call_);
  if (timer_) loop_.cancel(*timer_);
}

void TopologyWatch::run() { ask(); }

void TopologyWatch::leave() {
  if (std::exchange(left_, true) || !call_) return;
  // What waits for an answer says that it is here.
  http_.cancel(*std::exchange(call_, std::nullopt));
  ask();
}

void TopologyWatch::ask() {
  net::HttpCall call;
  call.address = source_.controller;
  call.method = "GET";
  call.target = fmt::format("/cluster/v1/topology?after={}&fence={}", revision_, fence_);
  if (!left_) {
    call.target += fmt::format("&gateway={:x}&gateways={}", source_.gateway, gateways_);
  }
  call.headers = {{"authorization", "Bearer " + source_.secret}};
  call.read_timeout = kPollLimit;
  call_ = http_.fetch(std::move(call), [this](Result<net::HttpClient::Whole> answer) {
    call_.reset();
    on_answer(answer);
  });
}

void TopologyWatch::take(const protocol::Topology& topology) {
  if (topology.gateways > 0 && std::exchange(gateways_, topology.gateways) != topology.gateways)
    on_gateways_(gateways_);
  if (topology.fence == fence_ && topology.revision <= revision_) return;
  fence_ = topology.fence;
  revision_ = topology.revision;
  on_change_(topology);
}

void TopologyWatch::on_answer(const Result<net::HttpClient::Whole>& answer) {
  std::string trouble;
  if (!answer) {
    trouble = answer.error().message;
  } else if (answer->status == 200) {
    const auto topology = protocol::parse_topology(answer->body);
    if (!topology) {
      trouble = topology.error().message;
    } else if (topology->fence < fence_) {
      trouble = "an older controller answered";  // it was replaced and does not know yet
    } else {
      take(*topology);
    }
  } else if (answer->status == 401) {
    trouble = "it denies the secret; set [cluster] secret_file to the cluster's own";
  } else if (answer->status != 304) {
    trouble = fmt::format("HTTP {}", answer->status);
  }
  const net::HttpAddress& controller = source_.controller;
  if (connected_ != trouble.empty()) {
    if (trouble.empty())
      log::info("controller {}:{} answers again", controller.host, controller.port);
    else
      log::warn("controller {}:{}: {}; {}", controller.host, controller.port, trouble,
                revision_ > 0 ? "serving on with the last topology"
                              : "nothing can be served until it tells of instances");
  }
  connected_ = trouble.empty();
  if (connected_) {
    ask();
    return;
  }
  timer_ = loop_.call_at(loop_.now() + kRetryPause, [this] {
    timer_.reset();
    ask();
  });
}

}  // namespace pd::gateway
