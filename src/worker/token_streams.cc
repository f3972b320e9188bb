#include "worker/token_streams.h"

namespace pd::worker {
namespace {

constexpr std::size_t kSessionsMax = 4096;

}  // namespace

void TokenStreams::open(std::uint64_t session, net::HttpResponse response) {
  if (streams_->size() >= kSessionsMax && !streams_->contains(session))
    return response.send(503, "text/plain", "this instance has too many token streams");
  if (const auto before = streams_->find(session); before != streams_->end())
    before->second.abort();
  response.start(200, "application/octet-stream");
  response.on_close([streams = std::weak_ptr(streams_), session] {
    if (const auto left = streams.lock()) left->erase(session);
  });
  streams_->insert_or_assign(session, std::move(response));
}

bool TokenStreams::send(std::uint64_t session, const protocol::AttemptId& leg,
                        const protocol::Frame& frame) {
  const auto it = streams_->find(session);
  if (it == streams_->end() || !it->second.open()) return false;
  bytes_.clear();
  protocol::append_leg(bytes_, leg);
  protocol::append_frame(bytes_, frame);
  it->second.write(bytes_);
  return true;
}

}  // namespace pd::worker
