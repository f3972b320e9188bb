// Whom an instance tells that a place has become free: those that it has rejected, the longest ago
// first. Who holds the places learns of it when its own leg ends; all others would only find out by
// their hints, always too late (G14, G32). Telling is no promise: whoever asks first has the place.
// Pure; told the time.
#pragma once

#include <algorithm>
#include <deque>
#include <vector>

#include "base/time.h"

namespace pd::policy {

struct TurnsOptions {
  // So many are told of one place: some of those that were rejected have found one elsewhere since.
  std::size_t told = 4;
  // After this one has looked by itself, or has nothing to ask for any more.
  Duration remembered{std::chrono::seconds(5)};
  std::size_t askers_max = 1024;
};

// `Asker`: a gateway's loop; comparable for equality.
template <typename Asker>
class Turns {
 public:
  explicit Turns(const TurnsOptions& options = {}) : options_(options) {}

  void on_rejected(const Asker& asker, Time now) {
    while (!waiting_.empty() && waiting_.front().at + options_.remembered < now)
      waiting_.pop_front();
    const auto it = std::ranges::find(waiting_, asker, &Waiting::asker);
    if (it != waiting_.end()) return;  // its place in the line is that of its first rejection
    if (waiting_.size() >= options_.askers_max) waiting_.pop_front();
    waiting_.push_back({asker, now});
  }
  // It has had its turn.
  void on_accepted(const Asker& asker) {
    std::erase_if(waiting_, [&](const Waiting& one) { return one.asker == asker; });
  }
  // A place is free: whom to tell. They are in the line no more.
  std::vector<Asker> on_free(Time now) {
    std::vector<Asker> out;
    while (!waiting_.empty() && out.size() < options_.told) {
      if (waiting_.front().at + options_.remembered >= now) out.push_back(waiting_.front().asker);
      waiting_.pop_front();
    }
    return out;
  }

 private:
  struct Waiting {
    Asker asker;
    Time at;
  };
  TurnsOptions options_;
  std::deque<Waiting> waiting_;
};

}  // namespace pd::policy
