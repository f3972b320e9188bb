// One stream from each instance that decodes, which carries the tokens of all this gateway's legs
// there: a step is one read, however many requests it was for. Opened when the topology tells of
// the instance and again when it breaks; legs begun without it carry their tokens themselves. Loop
// thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "net/event_loop.h"
#include "net/http_client.h"
#include "protocol/pd_messages.h"

namespace pd::gateway {

class TokenStreams {
 public:
  using OnFrame = std::function<void(const protocol::LegFrame&)>;
  // What was read at once has been handed over.
  using OnRead = std::function<void()>;
  // `session`: of this gateway on every instance, not 0.
  TokenStreams(net::EventLoop& loop, net::HttpClient& http, std::string secret,
               std::uint64_t session, OnFrame on_frame, OnRead on_read);
  ~TokenStreams();

  // The instances that decode. Streams of others are closed.
  void follow(const std::map<WorkerId, net::HttpAddress>& instances);
  // For a leg on `worker`: whom to send its tokens to; 0: there is no stream now.
  std::uint64_t session_at(WorkerId worker) const;

 private:
  struct Stream {
    net::HttpAddress address;
    net::HttpClient::CallId call = 0;
    bool open = false;
    net::EventLoop::TimerId again = 0;
    Duration pause{};  // before the next attempt; grows while there is no answer
    protocol::LegFrameReader reader;
  };
  void open(WorkerId worker, Stream& stream);
  void close(const Stream& stream);
  void on_bytes(WorkerId worker, std::string_view bytes);
  void try_later(WorkerId worker);

  net::EventLoop& loop_;
  net::HttpClient& http_;
  std::string secret_;
  std::uint64_t session_;
  OnFrame on_frame_;
  OnRead on_read_;
  std::map<WorkerId, Stream> streams_;
};

}  // namespace pd::gateway
