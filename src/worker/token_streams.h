// One stream for each gateway, which carries the tokens of all its decode legs here: what a step
// gives leaves in one write, however many requests it was for. Loop thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "net/http_server.h"
#include "protocol/pd_messages.h"

namespace pd::worker {

class TokenStreams {
 public:
  // The stream of this session from now on; it stays open until the gateway closes it or does not
  // read it. More sessions than there can be gateways are refused.
  void open(std::uint64_t session, net::HttpResponse response);
  bool has(std::uint64_t session) const { return streams_->contains(session); }
  // False: there is no such stream (any more), and the leg's own has to carry what comes.
  bool send(std::uint64_t session, const protocol::AttemptId& leg, const protocol::Frame& frame);

 private:
  using Streams = std::unordered_map<std::uint64_t, net::HttpResponse>;
  // Shared with on_close() callbacks, which may come later than this.
  std::shared_ptr<Streams> streams_ = std::make_shared<Streams>();
  std::string bytes_;
};

}  // namespace pd::worker
