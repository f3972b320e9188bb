// Work that is due at a time: the order of timers, without a clock. Internal to net.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/time.h"

namespace pd::net {

class TimerQueue {
 public:
  using TimerId = std::uint64_t;  // from 1, never reused

  TimerId add(Time when, std::function<void()> work) {
    const TimerId id = ++last_id_;
    by_time_.emplace(Key{when, id}, std::move(work));
    when_.emplace(id, when);
    return id;
  }
  void cancel(TimerId id) {
    const auto found = when_.find(id);
    if (found == when_.end()) return;
    by_time_.erase(Key{found->second, id});
    when_.erase(found);
  }
  std::optional<Time> next() const {
    if (by_time_.empty()) return std::nullopt;
    return by_time_.begin()->first.first;
  }
  TimerId newest() const { return last_id_; }
  // The earliest work due at `now`, removed; equal times in the order of add(). Empty: none is due.
  // Work added after `newest` is left for another turn, so that work which adds work that is due at
  // once cannot hold the loop.
  std::function<void()> pop_due(Time now, TimerId newest) {
    for (auto entry = by_time_.begin(); entry != by_time_.end(); ++entry) {
      const auto [when, id] = entry->first;
      if (when > now) break;
      if (id > newest) continue;
      std::function<void()> work = std::move(entry->second);
      by_time_.erase(entry);
      when_.erase(id);
      return work;
    }
    return {};
  }
  std::size_t size() const { return when_.size(); }

 private:
  using Key = std::pair<Time, TimerId>;
  std::map<Key, std::function<void()>> by_time_;
  std::unordered_map<TimerId, Time> when_;
  TimerId last_id_ = 0;
};

}  // namespace pd::net
