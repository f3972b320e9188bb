#include "legs/leg_channel.h"

#include <fmt/format.h>

#include <utility>

namespace pd::legs {
namespace {

// A machine that vanished is noticed after this, while legs run and while none does: as soon as an
// instance that does not answer renewals (policy::LinkOptions), and before the next request comes.
constexpr Duration kVanishedAfter = std::chrono::seconds(2);

}  // namespace

LegChannel::LegChannel(net::HttpClient& http, net::HttpAddress address, const std::string& secret,
                       LegChannelObserver observer)
    : http_(http),
      address_(std::move(address)),
      authorization_("Bearer " + secret),
      observer_(std::move(observer)) {}

LegChannel::~LegChannel() {
  if (call_ != 0) http_.cancel(call_);
}

template <typename Message>
void LegChannel::send(const Message& message) {
  if (!open_) {
    protocol::append_command(waiting_, message);
    return open();
  }
  bytes_.clear();
  protocol::append_command(bytes_, message);
  http_.send(call_, bytes_);
}

void LegChannel::start(const protocol::PrefillRequest& request) { send(request); }
void LegChannel::start(const protocol::DecodeRequest& request) { send(request); }

void LegChannel::cancel(const protocol::AttemptId& leg) {
  if (call_ != 0) send(protocol::CancelLeg{leg});
}

void LegChannel::open() {
  if (call_ != 0) return;
  reader_ = {};
  net::HttpCall call;
  call.address = address_;
  call.method = "GET";
  call.target = "/pd/v1/legs";
  call.headers = {{"authorization", authorization_}};
  call.upgrade = protocol::kLegProtocol;
  call.vanished_after = kVanishedAfter;
  net::HttpCallHandlers handlers;
  handlers.on_head = [this](int status, const std::vector<net::Header>&) {
    if (status != 101) {
      http_.cancel(call_);
      return lose({ErrorCode::kIncompatible,
                   fmt::format("{} answered HTTP {} to a channel for {}", net::to_string(address_),
                               status, protocol::kLegProtocol)});
    }
    open_ = true;
    lost_ = false;
    if (!waiting_.empty()) http_.send(call_, std::exchange(waiting_, {}));
    if (observer_.on_open) observer_.on_open();
  };
  handlers.on_data = [this](std::string_view bytes) { on_bytes(bytes); };
  handlers.on_end = [this](const Status& status) {
    lose(status ? Error{ErrorCode::kCancelled,
                        fmt::format("{} closed the channel", net::to_string(address_))}
                : status.error());
  };
  call_ = http_.call(std::move(call), std::move(handlers));
}

void LegChannel::on_bytes(std::string_view bytes) {
  const std::weak_ptr alive(alive_);
  while (true) {
    const auto frame = reader_.next(bytes);
    if (!frame) {
      http_.cancel(call_);
      return lose({ErrorCode::kCorrupt, frame.error().message});
    }
    if (*frame == nullptr) break;
    observer_.on_frame(**frame);
    if (alive.expired() || !open_) return;
  }
  observer_.on_read();
}

void LegChannel::lose(const Error& error) {
  call_ = 0;
  open_ = false;
  lost_ = true;
  waiting_.clear();
  observer_.on_lost(error);
}

}  // namespace pd::legs
