#include "gateway/token_streams.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"

namespace pd::gateway {
namespace {

constexpr Duration kPauseMin = std::chrono::milliseconds(300);
constexpr Duration kPauseMax = std::chrono::seconds(10);

}  // namespace

TokenStreams::TokenStreams(net::EventLoop& loop, net::HttpClient& http, std::string secret,
                           std::uint64_t session, OnFrame on_frame, OnRead on_read)
    : loop_(loop),
      http_(http),
      secret_(std::move(secret)),
      session_(session),
      on_frame_(std::move(on_frame)),
      on_read_(std::move(on_read)) {}

TokenStreams::~TokenStreams() {
  for (auto& [worker, stream] : streams_) close(stream);
}

void TokenStreams::follow(const std::map<WorkerId, net::HttpAddress>& instances) {
  std::erase_if(streams_, [&](const auto& entry) {
    const auto it = instances.find(entry.first);
    if (it != instances.end() && it->second == entry.second.address) return false;
    close(entry.second);
    return true;
  });
  for (const auto& [worker, address] : instances) {
    const auto [it, fresh] = streams_.try_emplace(worker);
    if (!fresh) continue;
    it->second.address = address;
    open(worker, it->second);
  }
}

std::uint64_t TokenStreams::session_at(WorkerId worker) const {
  const auto it = streams_.find(worker);
  return it != streams_.end() && it->second.open ? session_ : 0;
}

void TokenStreams::open(WorkerId worker, Stream& stream) {
  stream.reader = {};
  net::HttpCall call;
  call.address = stream.address;
  call.target = "/pd/v1/tokens";
  call.headers = {{"authorization", "Bearer " + secret_},
                  {"content-type", "application/octet-stream"}};
  call.body = protocol::encode(protocol::TokenStreamRequest{session_});
  call.response_bytes_max = Bytes(INT64_MAX);
  net::HttpCallHandlers handlers;
  handlers.on_head = [this, worker](int status, const std::vector<net::Header>&) {
    const auto it = streams_.find(worker);
    if (it == streams_.end()) return;
    it->second.open = status == 200;
    if (it->second.open) it->second.pause = {};
  };
  handlers.on_data = [this, worker](std::string_view bytes) { on_bytes(worker, bytes); };
  handlers.on_end = [this, worker](const Status&) { try_later(worker); };
  stream.call = http_.call(std::move(call), std::move(handlers));
}

void TokenStreams::close(const Stream& stream) {
  http_.cancel(stream.call);
  if (stream.again != 0) loop_.cancel(stream.again);
}

void TokenStreams::on_bytes(WorkerId worker, std::string_view bytes) {
  auto it = streams_.find(worker);
  if (it == streams_.end() || !it->second.open) return;
  it->second.reader.feed(bytes);
  // A frame may end a request, and with it this stream: looked up anew for each.
  while ((it = streams_.find(worker)) != streams_.end()) {
    const auto frame = it->second.reader.next();
    if (!frame) {
      log::warn("token stream of instance {}: {}", worker.value(), frame.error().message);
      http_.cancel(it->second.call);
      try_later(worker);
      break;
    }
    if (!*frame) break;
    on_frame_(**frame);
  }
  on_read_();
}

// Legs that relied on it find a gap in their tokens and are placed again.
void TokenStreams::try_later(WorkerId worker) {
  const auto it = streams_.find(worker);
  if (it == streams_.end()) return;
  it->second.open = false;
  it->second.pause = std::clamp(2 * it->second.pause, kPauseMin, kPauseMax);
  it->second.again = loop_.call_at(loop_.now() + it->second.pause, [this, worker] {
    const auto again = streams_.find(worker);
    if (again == streams_.end()) return;
    again->second.again = 0;
    open(worker, again->second);
  });
}

}  // namespace pd::gateway
