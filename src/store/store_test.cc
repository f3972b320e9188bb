#include "store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
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

// The store as it should be, in three lines of state.
struct Model {
  std::map<std::string, Entry> entries;
  std::uint64_t revision = 0;

  bool holds(const Change& change) const {
    if (!change.expected) return true;
    const auto found = entries.find(change.key);
    return *change.expected == (found == entries.end() ? 0 : found->second.revision);
  }
  // Changes apply in order, so that a later one of a transaction sees the earlier ones.
  bool commit(const std::vector<Change>& changes) {
    Model next = *this;
    ++next.revision;
    for (const Change& change : changes) {
      if (!next.holds(change)) return false;
      next.entries.erase(change.key);
      if (change.value) next.entries[change.key] = {change.key, *change.value, next.revision};
    }
    *this = std::move(next);
    return true;
  }
  std::vector<Entry> list(const std::string& prefix) const {
    std::vector<Entry> out;
    for (const auto& [key, entry] : entries) {
      if (key.starts_with(prefix)) out.push_back(entry);
    }
    return out;
  }
};

std::vector<Change> random_changes(Rng& rng, const Model& model) {
  std::vector<Change> out;
  const auto count = 1 + rng.below(3);
  for (std::uint64_t i = 0; i < count; ++i) {
    Change change;
    change.key = (rng.below(2) == 0 ? "a/" : "b/") + std::to_string(rng.below(15));
    if (rng.below(4) != 0)
      change.value = std::string(rng.below(40), static_cast<char>(rng.below(256)));
    if (rng.below(2) == 0) {
      const auto found = model.entries.find(change.key);
      change.expected = found == model.entries.end() ? 0 : found->second.revision;
      if (rng.below(4) == 0) ++*change.expected;
    }
    out.push_back(std::move(change));
  }
  return out;
}

TEST(Store, BehavesLikeAMapWithRevisions) {
  Rng rng(5);
  auto store = std::move(open_embedded_store(":memory:").value());
  Model model;
  int refused = 0;
  for (int step = 0; step < 3000; ++step) {
    const std::vector<Change> changes = random_changes(rng, model);
    const auto revision = store->commit(changes);
    const bool accepted = model.commit(changes);
    ASSERT_EQ(revision.has_value(), accepted);
    refused += !accepted;
    if (accepted) {
      ASSERT_EQ(*revision, model.revision);
    }
    if (step % 100 != 0) continue;
    for (const char* prefix : {"", "a/", "a/1", "c"}) {
      ASSERT_EQ(store->list(prefix).value(), model.list(prefix));
    }
    ASSERT_EQ(store->revision().value(), model.revision);
  }
  EXPECT_GT(refused, 100);
}

TEST(Store, SurvivesReopeningAnywhere) {
  Rng rng(9);
  const auto path = fresh("store_reopen_often.db");
  Model model;
  for (int round = 0; round < 20; ++round) {
    auto store = open_embedded_store(path);
    ASSERT_TRUE(store) << store.error().message;
    ASSERT_EQ((*store)->list("").value(), model.list(""));
    ASSERT_EQ((*store)->revision().value(), model.revision);
    for (std::uint64_t i = 0; i < rng.below(10); ++i) {
      const std::vector<Change> changes = random_changes(rng, model);
      ASSERT_EQ((*store)->commit(changes).has_value(), model.commit(changes));
    }
  }
}

TEST(Store, SaysWhatIsWrongWithAFile) {
  const auto garbage = fresh("store_garbage.db");
  std::ofstream(garbage) << std::string(5000, 'g');
  EXPECT_THAT(open_embedded_store(garbage).error().message, testing::HasSubstr("not a store"));
  EXPECT_FALSE(open_embedded_store("/nonexistent/folder/x.db"));
}

// Why the store does not open or cannot be read whole.
Error error_of(Result<std::unique_ptr<ClusterStore>>& store) {
  if (!store) return store.error();
  const auto all = (*store)->list("");
  return all ? Error{ErrorCode::kInternal, "it was read"} : all.error();
}

TEST(Store, DamagedPagesAreAnErrorNotACrash) {
  const auto path = fresh("store_damaged.db");
  {
    auto store = std::move(open_embedded_store(path).value());
    for (int i = 0; i < 200; ++i) {
      ASSERT_TRUE(store->commit({{"k" + std::to_string(i), std::string(500, 'v'), {}}}));
    }
  }
  const auto size = std::filesystem::file_size(path);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    for (std::uint64_t at = 4096; at + 64 < size; at += 4096) {
      file.seekp(static_cast<std::streamoff>(at));
      file << std::string(64, '\xA5');
    }
  }
  auto store = open_embedded_store(path);
  const Error failure = error_of(store);
  EXPECT_EQ(failure.code, ErrorCode::kCorrupt) << failure.message;
  EXPECT_THAT(failure.message, testing::HasSubstr("store_damaged.db"));
}

// The system refuses to let the file grow, as a full disk does: in a process of its own, because
// the limit is the process's.
TEST(Store, AWriteThatFailsChangesNothingAndLaterOnesWork) {
  const auto path = fresh("store_full.db");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto require = [](bool holds, int step) {
      if (!holds) ::_exit(step);
    };
    ::signal(SIGXFSZ, SIG_IGN);
    auto store = std::move(open_embedded_store(path).value());
    require(store->commit({{"small", "1", {}}}).has_value(), 1);
    rlimit before{};
    ::getrlimit(RLIMIT_FSIZE, &before);
    const rlimit tight{.rlim_cur = 128 * 1024, .rlim_max = before.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &tight);
    const auto refused =
        store->commit({{"small", "2", {}}, {"large", std::string(1'000'000, 'x'), {}}});
    require(!refused.has_value() && refused.error().code == ErrorCode::kUnavailable, 2);
    require(store->get("small").value()->value == "1", 3);
    ::setrlimit(RLIMIT_FSIZE, &before);
    require(store->commit({{"small", "3", {}}}).has_value(), 4);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0) << "exit status is the step that failed, times 256";
  auto store = std::move(open_embedded_store(path).value());
  EXPECT_EQ(store->get("small").value()->value, "3");
  EXPECT_EQ(store->get("large").value(), std::nullopt);
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
