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

TopologyWatch::TopologyWatch(net::EventLoop& loop, net::HttpClient& http,
                             net::HttpAddress controller, std::string secret,
                             std::function<void(const protocol::Topology&)> on_change)
    : loop_(loop),
      http_(http),
      controller_(std::move(controller)),
      secret_(std::move(secret)),
      on_change_(std::move(on_change)) {}

TopologyWatch::~TopologyWatch() {
  if (call_) http_.cancel(*call_);
  if (timer_) loop_.cancel(*timer_);
}

void TopologyWatch::run() { ask(); }

void TopologyWatch::ask() {
  net::HttpCall call;
  call.address = controller_;
  call.method = "GET";
  call.target = fmt::format("/cluster/v1/topology?after={}&fence={}", revision_, fence_);
  call.headers = {{"authorization", "Bearer " + secret_}};
  call.read_timeout = kPollLimit;
  call_ = http_.fetch(std::move(call), [this](Result<net::HttpClient::Whole> answer) {
    call_.reset();
    on_answer(answer);
  });
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
    } else if (topology->fence > fence_ || topology->revision > revision_) {
      fence_ = topology->fence;
      revision_ = topology->revision;
      on_change_(*topology);
    }
  } else if (answer->status != 304) {
    trouble = fmt::format("HTTP {}", answer->status);
  }
  if (connected_ != trouble.empty()) {
    if (trouble.empty())
      log::info("controller {}:{} answers again", controller_.host, controller_.port);
    else
      log::warn("controller {}:{}: {}; {}", controller_.host, controller_.port, trouble,
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
