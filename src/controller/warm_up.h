// One real request through a pair before it is announced: prefill on P, handoff, decode on D (G27).
// Loop thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "legs/leg_channel.h"
#include "net/event_loop.h"
#include "net/http_client.h"
#include "protocol/pd_messages.h"

namespace pd::controller {

struct WarmUpPlan {
  RequestId request;  // fresh
  net::HttpAddress prefill;
  net::HttpAddress decode;
  std::uint64_t layout_hash = 0;
  std::string secret;
};

// Runs until `done`, which is called exactly once unless it is destroyed before.
class WarmUpRun : public std::enable_shared_from_this<WarmUpRun> {
 public:
  WarmUpRun(net::EventLoop& loop, net::HttpClient& http, WarmUpPlan plan,
            std::function<void(Status)> done);
  void start();

 private:
  legs::LegChannelObserver observe(std::uint32_t attempt, const char* role);
  void on_frame(std::uint32_t attempt, const protocol::Frame& frame);
  void start_decode(const std::vector<TokenId>& emitted);
  void finish(Status status);

  net::EventLoop& loop_;
  WarmUpPlan plan_;
  std::function<void(Status)> done_;
  protocol::SamplingParams sampling_;
  std::string descriptor_;
  legs::LegChannel prefill_, decode_;  // attempts 1 and 2
  bool concluded_[2] = {false, false};
};

}  // namespace pd::controller
