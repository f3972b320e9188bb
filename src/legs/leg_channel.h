// The one connection from a gateway's loop (or the controller) to an instance: every leg between
// the two travels on it, and what is sent in one turn of the loop is one write. Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/http_client.h"
#include "protocol/pd_messages.h"

namespace pd::legs {

// Never called from inside start(), open() or cancel(); each may end the channel.
struct LegChannelObserver {
  std::function<void(const protocol::LegFrame&)> on_frame;  // also of legs cancelled meanwhile
  std::function<void()> on_read;                            // after the frames of one read
  std::function<void()> on_open;  // each time that it has been opened; may be empty
  // It broke, or could not be opened: every leg that was begun on it is over. The next start() or
  // open() opens it anew. kCancelled: it was open and its other end closed it, as one does that
  // dies; kUnavailable: it fell silent, or could not be opened; kIncompatible: the instance does
  // not speak kLegProtocol; kCorrupt: it sent what is no frame.
  std::function<void(const Error&)> on_lost;
};

class LegChannel {
 public:
  // `http` outlives it. Opened by the first start() or open(), not before.
  LegChannel(net::HttpClient& http, net::HttpAddress address, const std::string& secret,
             LegChannelObserver observer);
  ~LegChannel();  // closes it, which cancels its legs; no callback runs afterwards
  LegChannel(const LegChannel&) = delete;
  LegChannel& operator=(const LegChannel&) = delete;

  void start(const protocol::PrefillRequest& request);
  void start(const protocol::DecodeRequest& request);
  // Harmless when the leg has ended there.
  void cancel(const protocol::AttemptId& leg);
  // With no leg to begin; harmless when it is open or being opened.
  void open();

  // It broke, or could not be opened, and has not been open since.
  bool lost() const { return lost_; }

  const net::HttpAddress& address() const { return address_; }

 private:
  template <typename Message>
  void send(const Message& message);
  void on_bytes(std::string_view bytes);
  void lose(const Error& error);

  net::HttpClient& http_;
  net::HttpAddress address_;
  std::string authorization_;
  LegChannelObserver observer_;
  net::HttpClient::CallId call_ = 0;  // 0: not open, and not being opened
  bool open_ = false;
  bool lost_ = false;
  std::string waiting_;  // commands from before it was open
  std::string bytes_;
  protocol::LegFrameReader reader_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace pd::legs
