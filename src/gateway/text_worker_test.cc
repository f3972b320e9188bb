#include "gateway/text_worker.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <vector>

namespace pd::gateway {
namespace {

using policy::TenantId;

constexpr TenantId kOther(1), kHog(2);

std::shared_ptr<std::atomic<bool>> wanted() { return std::make_shared<std::atomic<bool>>(true); }

// Holds the worker's thread until it is let go.
class Gate {
 public:
  void pass() {
    std::unique_lock lock(mutex_);
    reached_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  void wait_until_reached() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return reached_; });
  }
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool reached_ = false, open_ = false;
};

TEST(TextWorker, HoldsNoMoreThanItsLimits) {
  Gate gate;
  std::vector<int> done;
  {
    TextWorker worker({.items = 8, .bytes = Bytes(100)});
    worker.run();
    EXPECT_TRUE(worker.submit(kHog, Bytes(500), wanted(), [&](bool) { gate.pass(); }))
        << "one alone may be larger than the limit";
    gate.wait_until_reached();
    EXPECT_FALSE(worker.submit(kHog, Bytes(1), wanted(), [&](bool) { done.push_back(0); }));
    gate.open();
  }
  EXPECT_TRUE(done.empty());
  Gate second;
  TextWorker worker({.items = 8, .bytes = Bytes(100)});
  worker.run();
  EXPECT_TRUE(worker.submit(kHog, Bytes(1), wanted(), [&](bool) { second.pass(); }));
  second.wait_until_reached();
  EXPECT_TRUE(worker.submit(kHog, Bytes(40), wanted(), [](bool) {}));
  EXPECT_FALSE(worker.submit(kHog, Bytes(40), wanted(), [](bool) {})) << "bytes";
  EXPECT_TRUE(worker.submit(kHog, Bytes(1), wanted(), [](bool) {}));
  EXPECT_TRUE(worker.submit(kHog, Bytes(1), wanted(), [](bool) {}));
  EXPECT_FALSE(worker.submit(kHog, Bytes(1), wanted(), [](bool) {})) << "items";
  EXPECT_TRUE(worker.submit(kOther, Bytes(1), wanted(), [](bool) {}));
  second.open();
}

TEST(TextWorker, ReadsAnotherTenantsTextBeforeTheRestOfTheFirstOnes) {
  Gate gate, end;
  std::vector<TenantId> read;
  TextWorker worker({});
  worker.run();
  EXPECT_TRUE(worker.submit(kHog, Bytes(1), wanted(), [&](bool) { gate.pass(); }));
  gate.wait_until_reached();
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(worker.submit(kHog, Bytes(1), wanted(), [&](bool) { read.push_back(kHog); }));
  EXPECT_TRUE(worker.submit(kHog, Bytes(1), wanted(), [&](bool) { end.pass(); }));
  EXPECT_TRUE(worker.submit(kOther, Bytes(1), wanted(), [&](bool) { read.push_back(kOther); }));
  gate.open();
  end.wait_until_reached();
  EXPECT_EQ(read, (std::vector<TenantId>{kOther, kHog, kHog, kHog}));
  end.open();
}

TEST(TextWorker, BeginsNothingThatNobodyWaitsFor) {
  Gate gate;
  std::vector<bool> went;
  {
    TextWorker worker({});
    worker.run();
    EXPECT_TRUE(worker.submit(kHog, Bytes(1), wanted(), [&](bool) { gate.pass(); }));
    gate.wait_until_reached();
    const auto leaves = wanted(), stays = wanted();
    for (const auto& client : {leaves, stays})
      EXPECT_TRUE(worker.submit(kHog, Bytes(1), client, [&](bool go) { went.push_back(go); }));
    *leaves = false;
    const auto asked = std::make_shared<Gate>();
    EXPECT_TRUE(worker.submit(kHog, Bytes(1), wanted(), [asked](bool) { asked->pass(); }));
    gate.open();
    asked->wait_until_reached();
    EXPECT_TRUE(worker.submit(kHog, Bytes(1), wanted(), [&](bool go) { went.push_back(go); }));
    worker.give_up();  // and what waits is told so
    asked->open();
  }
  EXPECT_EQ(went, (std::vector<bool>{false, true, false}));
}

}  // namespace
}  // namespace pd::gateway
