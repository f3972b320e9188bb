// The texts that wait for one thread, and which of them is next.
//
// Tenants have the same share of the thread's time: next is the oldest text of the tenant that has
// had the least of it. One that was away starts where those who wait are: nothing is saved up.
//
// And of the room: a tenant holds no more than it leaves free. So one alone fills half of it, each
// of two a third, and there is room left for who comes new.
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "base/time.h"
#include "base/units.h"
#include "policy/tenant.h"

namespace pd::gateway {

struct WaitingText {
  policy::TenantId tenant;
  Bytes bytes;  // that it holds while it waits and while it is read
  std::shared_ptr<const std::atomic<bool>> wanted;
  std::function<void(bool go)> work;
};

// Of one thread at a time.
class TextLine {
 public:
  // Of all tenants together.
  struct Limits {
    int items = 1024;
    Bytes bytes{64 << 20};
  };
  explicit TextLine(const Limits& limits) : limits_(limits) {}

  // False: there is no room for it. The only one of its tenant may be as large as it likes, as long
  // as there is any.
  bool add(WaitingText text);
  // It keeps its room until ended(); one at a time.
  std::optional<WaitingText> next();
  void ended(const WaitingText& text, Duration took);
  bool empty() const { return backlogged_.empty(); }

 private:
  struct Held {
    int items = 0;
    Bytes bytes;
  };
  struct Tenant {
    Duration had{};  // of the thread's time
    Held held;
    std::deque<WaitingText> waiting;
  };

  Limits limits_;
  Held held_;
  std::map<policy::TenantId, Tenant> tenants_;  // all that ever came: they are known by their keys
  std::set<std::pair<Duration, policy::TenantId>> backlogged_;  // those who wait, by what they had
  Duration floor_{};  // what the one whose turn it was last had had
};

}  // namespace pd::gateway
