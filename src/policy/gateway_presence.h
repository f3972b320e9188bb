// How many gateways a cluster has: those that wait for the controller's next topology, or have just
// had one. Pure: told what happens and when.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "base/time.h"

namespace pd::policy {

class GatewayPresence {
 public:
  struct Options {
    // Between two questions of a gateway, and after the controller's start: for so long one that
    // says nothing is still there, or has not come back yet.
    Duration grace{std::chrono::seconds(3)};
    std::size_t gateways_max = 10'000;  // more are not counted
  };
  GatewayPresence(const Options& options, Time now);

  // One of its event loops asks, and waits for the answer.
  void on_ask(std::uint64_t gateway, Time now);
  // An answer has left, or the one that asked has gone.
  void on_end(std::uint64_t gateway, Time now);
  // Looks at who has not come back by now. True: the count is another one than at the last call.
  bool poll(Time now);
  std::optional<Time> next_deadline() const;  // of poll()

  // As of the last poll(); 0 until those of before the start have had time to come.
  int count() const { return count_; }

 private:
  struct Gateway {
    int asking = 0;
    Time seen;
  };
  Options options_;
  Time known_from_;
  bool known_ = false;
  std::map<std::uint64_t, Gateway> gateways_;
  int count_ = 0;
};

}  // namespace pd::policy
