#include "legs/leg_server.h"

#include <fmt/format.h>

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "base/log.h"

namespace pd::legs {

using protocol::AttemptId;

namespace detail {

// Held by its connection's callbacks and by the replies of its legs.
struct ServerChannel : std::enable_shared_from_this<ServerChannel> {
  ServerChannel(net::HttpResponse the_stream, std::shared_ptr<const LegHandlers> the_handlers)
      : stream(std::move(the_stream)), handlers(std::move(the_handlers)) {}

  void on_bytes(std::string_view bytes);
  void take(protocol::PrefillRequest request);
  void take(protocol::DecodeRequest request);
  void take(const protocol::CancelLeg& cancel);
  // nullopt: there is such a leg, which no gateway of ours begins twice.
  std::optional<LegReply> begin(const AttemptId& leg);
  void break_off(const std::string& why);
  void on_close();
  // `append_frame` adds it behind the leg that it is of.
  template <typename AppendFrame>
  void say(const AttemptId& leg, AppendFrame append_frame) {
    if (leg != protocol::kNoLeg && !legs.contains(leg)) return;
    bytes.clear();
    protocol::append_leg(bytes, leg);
    append_frame(bytes);
    stream.write(bytes);
  }

  net::HttpResponse stream;
  std::shared_ptr<const LegHandlers> handlers;
  protocol::LegCommandReader reader;
  std::map<AttemptId, std::function<void()>>
      legs;  // those that run; what to do when one is given up
  std::string bytes;
};

void ServerChannel::on_bytes(std::string_view input) {
  const auto self = shared_from_this();
  while (stream.open()) {
    auto command = reader.next(input);
    if (!command) return break_off(command.error().message);
    if (!*command) return;
    std::visit([this](auto& what) { take(std::move(what)); }, **command);
  }
}

std::optional<LegReply> ServerChannel::begin(const AttemptId& leg) {
  if (!legs.try_emplace(leg).second) {
    break_off("a leg was begun twice");
    return std::nullopt;
  }
  return LegReply(shared_from_this(), leg);
}

void ServerChannel::take(protocol::PrefillRequest request) {
  if (auto reply = begin(request.id)) handlers->on_prefill(std::move(request), std::move(*reply));
}

void ServerChannel::take(protocol::DecodeRequest request) {
  if (auto reply = begin(request.id)) handlers->on_decode(std::move(request), std::move(*reply));
}

void ServerChannel::take(const protocol::CancelLeg& cancel) {
  const auto given_up = legs.extract(cancel.id);
  if (!given_up.empty() && given_up.mapped()) given_up.mapped()();
}

void ServerChannel::break_off(const std::string& why) {
  log::warn("a channel is closed: {}", why);
  stream.abort();  // tells nobody
  on_close();
}

void ServerChannel::on_close() {
  for (const auto& [leg, give_up] : std::exchange(legs, {})) {
    if (give_up) give_up();
  }
}

}  // namespace detail

void LegPeer::say(const protocol::Frame& frame) const {
  if (const auto channel = channel_.lock(); channel && channel->stream.open())
    channel->say(protocol::kNoLeg,
                 [&frame](std::string& out) { protocol::append_frame(out, frame); });
}

LegReply::LegReply(std::shared_ptr<detail::ServerChannel> channel, const AttemptId& leg)
    : channel_(std::move(channel)), leg_(leg) {}

LegReply& LegReply::operator=(LegReply&& other) noexcept {
  std::swap(channel_, other.channel_);
  std::swap(leg_, other.leg_);
  return *this;
}

LegReply::~LegReply() {
  if (open()) finish(protocol::Fault{ErrorCode::kInternal, "the instance gave no answer"});
}

bool LegReply::open() const { return channel_ && channel_->legs.contains(leg_); }

void LegReply::send(const protocol::Frame& frame) {
  if (channel_)
    channel_->say(leg_, [&frame](std::string& out) { protocol::append_frame(out, frame); });
}

void LegReply::send_encoded(std::string_view frame) {
  if (channel_) channel_->say(leg_, [frame](std::string& out) { out.append(frame); });
}

void LegReply::end() {
  if (channel_) channel_->legs.erase(leg_);
}

void LegReply::on_close(std::function<void()> work) {
  if (open()) channel_->legs.at(leg_) = std::move(work);
}

LegServer::LegServer(LegHandlers handlers)
    : handlers_(std::make_shared<const LegHandlers>(std::move(handlers))) {}

void LegServer::take(const net::HttpRequest& request, net::HttpResponse response) {
  if (!request.asks_for(protocol::kLegProtocol)) {
    return response.send(426, "text/plain",
                         fmt::format("this instance speaks {}: GET with connection: upgrade and "
                                     "upgrade: {}",
                                     protocol::kLegProtocol, protocol::kLegProtocol),
                         {{"upgrade", std::string(protocol::kLegProtocol)}});
  }
  const auto channel = std::make_shared<detail::ServerChannel>(response, handlers_);
  response.upgrade(protocol::kLegProtocol,
                   [channel](std::string_view bytes) { channel->on_bytes(bytes); });
  response.on_close([channel] { channel->on_close(); });
}

}  // namespace pd::legs
