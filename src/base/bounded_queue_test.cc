#include "base/bounded_queue.h"

#include <gtest/gtest.h>

#include <thread>

namespace pd {
namespace {

TEST(BoundedQueue, FullRefusesAndKeepsTheValue) {
  BoundedQueue<std::unique_ptr<int>> queue(1);
  EXPECT_TRUE(queue.try_push(std::make_unique<int>(1)));
  auto second = std::make_unique<int>(2);
  EXPECT_FALSE(queue.try_push(std::move(second)));
  EXPECT_NE(second, nullptr);
}

TEST(BoundedQueue, ClosedDrainsThenEnds) {
  BoundedQueue<int> queue(4);
  EXPECT_TRUE(queue.push(1));
  queue.close();
  EXPECT_FALSE(queue.push(2));
  EXPECT_EQ(queue.pop(), 1);
  EXPECT_EQ(queue.pop(), std::nullopt);
}

TEST(BoundedQueue, KeepsOrderAndLosesNothingUnderBackPressure) {
  BoundedQueue<int> queue(3);
  std::jthread producer([&] {
    for (int i = 0; i < 10000; ++i) ASSERT_TRUE(queue.push(i));
    queue.close();
  });
  int expected = 0;
  while (auto item = queue.pop()) EXPECT_EQ(*item, expected++);
  EXPECT_EQ(expected, 10000);
}

TEST(BoundedQueue, PopUntilGivesUpAtItsLimit) {
  BoundedQueue<int> queue(1);
  EXPECT_EQ(queue.pop_until(SteadyTime::now()), std::nullopt);
}

}  // namespace
}  // namespace pd
