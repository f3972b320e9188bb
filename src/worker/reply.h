// The stream of frames that answers one P/D verb. Loop thread only.
#pragma once

#include <string>
#include <utility>

#include "net/http_server.h"
#include "protocol/pd_messages.h"

namespace pd::worker {

class Reply {
 public:
  explicit Reply(net::HttpResponse response) : response_(std::move(response)) {}
  void send(const protocol::Frame& frame) {
    if (!std::exchange(started_, true)) response_.start(200, "application/octet-stream");
    bytes_.clear();
    protocol::append_frame(bytes_, frame);
    response_.write(bytes_);
  }
  // The last frame, then the end of the stream.
  void finish(const protocol::Frame& frame) {
    send(frame);
    response_.end();
  }
  void end() { response_.end(); }
  void on_close(std::function<void()> work) { response_.on_close(std::move(work)); }

 private:
  net::HttpResponse response_;
  std::string bytes_;
  bool started_ = false;
};

inline std::vector<protocol::LogprobEntry> to_entries(const auto& list) {
  std::vector<protocol::LogprobEntry> out;
  for (const auto& item : list) out.push_back({item.id, item.logprob});
  return out;
}
// A sampled token's log-probabilities as the wire has them.
inline protocol::TokenLogprobs to_logprobs(const auto& token) {
  return {{token.id, token.logprob}, to_entries(token.top)};
}

}  // namespace pd::worker
