// Gives streams their tokens at the pace of an engine: one step for all of them together. Loop
// thread only.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/time.h"
#include "net/event_loop.h"
#include "net/http_server.h"

namespace pd::bench {

struct Pace {
  Duration step{0};  // between two tokens of a stream; 0: as fast as its reader takes them
  int burst = 32;    // with step 0: tokens in one write
};

class Stepper {
 public:
  // Writes up to that many tokens; false: that was the last, or nobody reads them any more.
  using Emit = std::function<bool(int count)>;

  Stepper(net::EventLoop& loop, const Pace& pace);
  ~Stepper();
  Stepper(const Stepper&) = delete;
  Stepper& operator=(const Stepper&) = delete;

  // The first token comes with the next step. `response` is what `emit` writes to; none: a channel,
  // which is never waited for.
  void add(std::optional<net::HttpResponse> response, Emit emit);

 private:
  struct Stream {
    std::optional<net::HttpResponse> response;
    Emit emit;
  };
  void step();
  void run_freely(const std::shared_ptr<Stream>& stream);

  net::EventLoop& loop_;
  Pace pace_;
  std::vector<Stream> streams_;
  Time next_{};
  std::optional<net::EventLoop::TimerId> timer_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace pd::bench
