#include "store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <map>

#include "base/rng.h"

namespace pd::store {
namespace {

std::filesystem::path fresh(const char* name) {
  const auto path = std::filesystem::path(testing::TempDir()) / name;
  for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path.string() + suffix);
  return path;
}

TEST(Store, ChangesComeBackAfterReopening) {
  const auto path = fresh("store_reopen.db");
  std::uint64_t revision = 0;
  {
    auto store = open_embedded_store(path);
    ASSERT_TRUE(store) << store.error().message;
    revision = (*store)
                   ->commit({{"a/1", "x", {}}, {"a/2", std::string("y\0z", 3), {}}, {"b", "w", {}}})
                   .value();
  }
  auto store = open_embedded_store(path);
  ASSERT_TRUE(store) << store.error().message;
  EXPECT_EQ(
      (*store)->list("a/").value(),
      (std::vector<Entry>{{"a/1", "x", revision}, {"a/2", std::string("y\0z", 3), revision}}));
  EXPECT_EQ((*store)->revision().value(), revision);
}

TEST(Store, AFailedExpectationChangesNothing) {
  auto store = std::move(open_embedded_store(":memory:").value());
  const auto first = store->commit({{"k", "1", 0}}).value();
  EXPECT_EQ(store->commit({{"other", "x", {}}, {"k", "2", 0}}).error().code,
            ErrorCode::kAlreadyExists);
  EXPECT_EQ(store->get("other").value(), std::nullopt);
  EXPECT_EQ(store->revision().value(), first);
  EXPECT_TRUE(store->commit({{"k", std::nullopt, first}}));
  EXPECT_EQ(store->get("k").value(), std::nullopt);
}

TEST(Store, BehavesLikeAMap) {
  Rng rng(5);
  auto store = std::move(open_embedded_store(":memory:").value());
  std::map<std::string, std::string> model;
  for (int i = 0; i < 2000; ++i) {
    const std::string key = "k" + std::to_string(rng.below(30));
    if (rng.below(4) == 0) {
      ASSERT_TRUE(store->commit({{key, std::nullopt, {}}}));
      model.erase(key);
    } else {
      ASSERT_TRUE(store->commit({{key, std::to_string(i), {}}}));
      model[key] = std::to_string(i);
    }
  }
  const auto all = store->list("").value();
  ASSERT_EQ(all.size(), model.size());
  for (const Entry& entry : all) EXPECT_EQ(model.at(entry.key), entry.value);
}

TEST(Store, SaysWhatIsWrongWithAFile) {
  const auto garbage = fresh("store_garbage.db");
  std::ofstream(garbage) << std::string(5000, 'g');
  EXPECT_THAT(open_embedded_store(garbage).error().message, testing::HasSubstr("not a store"));
  EXPECT_FALSE(open_embedded_store("/nonexistent/folder/x.db"));
}

TEST(Store, ASecondProcessIsRefused) {
  const auto path = fresh("store_locked.db");
  auto first = open_embedded_store(path);
  ASSERT_TRUE(first);
  EXPECT_THAT(open_embedded_store(path).error().message,
              testing::HasSubstr("in use by another process"));
}

TEST(Store, WhatWasCommittedSurvivesKill9) {
  const auto path = fresh("store_crash.db");
  int fds[2];
  ASSERT_EQ(::pipe(fds), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto store = std::move(open_embedded_store(path).value());
    for (std::uint32_t i = 1;; ++i) {
      (void)store->commit({{"n", std::to_string(i), {}}});
      (void)!::write(fds[1], &i, sizeof(i));
    }
  }
  std::uint32_t committed = 0;
  while (committed < 50) ASSERT_EQ(::read(fds[0], &committed, sizeof(committed)), 4);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(fds[1]);
  while (::read(fds[0], &committed, sizeof(committed)) == 4) {
  }
  auto store = open_embedded_store(path);
  ASSERT_TRUE(store) << store.error().message;
  EXPECT_GE(std::stoul((*store)->get("n").value()->value), committed);
}

}  // namespace
}  // namespace pd::store
