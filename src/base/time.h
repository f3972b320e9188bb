// Time as decisions see it. DecisionClock has no now(): a policy cannot read time, it is told.
// SteadyTime is the production source; the simulator's world is the other.
#pragma once

#include <chrono>

namespace pd {

struct DecisionClock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<DecisionClock, duration>;
  static constexpr bool is_steady = true;
};
using Time = DecisionClock::time_point;
using Duration = DecisionClock::duration;

// Monotonic time of this machine. Only code that does (threads, sockets) may call it.
struct SteadyTime {
  static Time now() {
    return Time(
        std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch()));
  }
};

inline double to_seconds(Duration d) { return std::chrono::duration<double>(d).count(); }
inline double to_ms(Duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

}  // namespace pd
