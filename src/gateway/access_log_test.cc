#include "gateway/access_log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <iterator>
#include <thread>

namespace pd::gateway {
namespace {

namespace fs = std::filesystem;

// As a full disk: no file of this process grows beyond so many bytes.
class SmallFiles {
 public:
  explicit SmallFiles(rlim_t bytes) : ignored_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~SmallFiles() {
    lift();
    std::signal(SIGXFSZ, ignored_);
  }
  void lift() const { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  void (*ignored_)(int);
  rlimit before_{};
};

class AccessLogTest : public testing::Test {
 protected:
  AccessLogTest() {
    std::string pattern = (fs::temp_directory_path() / "pdserve_log_XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~AccessLogTest() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  static std::string content(const fs::path& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void wait_until_lost(double lines) {
    const Counter lost = metrics_.counter("pdserve_access_log_lost_total", "");
    const Time limit = SteadyTime::now() + std::chrono::seconds(10);
    while (lost.value() < lines && SteadyTime::now() < limit) std::this_thread::yield();
  }
  fs::path folder_;
  Metrics metrics_;
};

TEST_F(AccessLogTest, HasEveryLineInOrderWhenItEnds) {
  std::string expected = "before\n";
  std::ofstream(folder_ / "log") << expected;
  {
    const auto log = AccessLog::open(folder_ / "log", metrics_);
    ASSERT_TRUE(log);
    for (int i = 0; i < 5000; ++i) {
      (*log)->write("line " + std::to_string(i));
      expected += "line " + std::to_string(i) + "\n";
    }
  }
  EXPECT_EQ(content(folder_ / "log"), expected);
}

TEST_F(AccessLogTest, AFileThatWasMovedAwayIsMadeAnew) {
  {
    const auto log = AccessLog::open(folder_ / "log", metrics_);
    fs::rename(folder_ / "log", folder_ / "log.1");
    (*log)->write("after");
  }
  EXPECT_EQ(content(folder_ / "log"), "after\n");
  EXPECT_EQ(content(folder_ / "log.1"), "");
}

TEST_F(AccessLogTest, WhatADiskDoesNotTakeIsCounted) {
  {
    const auto log = AccessLog::open("/dev/full", metrics_);
    ASSERT_TRUE(log);
    (*log)->write("one");
    (*log)->write("two");
  }
  EXPECT_THAT(metrics_.text(), testing::HasSubstr("pdserve_access_log_lost_total 2"));
}

TEST_F(AccessLogTest, ADiskThatStaysFullIsToldOnce) {
  testing::internal::CaptureStdout();
  const auto log = AccessLog::open("/dev/full", metrics_);
  ASSERT_TRUE(log);
  for (int i = 1; i <= 50; ++i) {
    (*log)->write("line");
    wait_until_lost(i);
  }
  EXPECT_TRUE((*log)->close());
  const std::string told = testing::internal::GetCapturedStdout();
  EXPECT_THAT(told, testing::HasSubstr("No space left on device (1 lines lost so far)"));
  EXPECT_EQ(std::ranges::count(told, '\n'), 1) << told;
}

TEST_F(AccessLogTest, WhatADiskTakesHalfOfStandsAlone) {
  const SmallFiles small(25);
  const auto log = AccessLog::open(folder_ / "log", metrics_);
  ASSERT_TRUE(log);
  for (int i = 1; i <= 3; ++i) {
    (*log)->write("line " + std::to_string(i) + " of ten");
    if (i == 2) wait_until_lost(1);
    if (i == 2) small.lift();
  }
  EXPECT_TRUE((*log)->close());
  EXPECT_EQ(content(folder_ / "log"), "line 1 of ten\nline 2 of t\nline 3 of ten\n");
  EXPECT_THAT(metrics_.text(), testing::HasSubstr("pdserve_access_log_lost_total 1"));
}

TEST_F(AccessLogTest, APipeIsNeverWaitedForWithoutEnd) {
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const auto nobody = AccessLog::open(pipe, metrics_);
  ASSERT_FALSE(nobody);
  EXPECT_THAT(nobody.error().message, testing::HasSubstr("nobody reads this pipe"));

  const UniqueFd reader(::open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  const auto log = AccessLog::open(pipe, metrics_);
  ASSERT_TRUE(log) << log.error().message;
  const std::string line(999, 'x');
  for (int i = 0; i < 1000; ++i) (*log)->write(line);
  const Time begun = SteadyTime::now();
  EXPECT_TRUE((*log)->close());
  EXPECT_LT(SteadyTime::now() - begun, std::chrono::seconds(8));
  std::string kept(1'000'000, '\0');
  const ssize_t n = ::read(reader.get(), kept.data(), kept.size());
  ASSERT_GT(n, 0);
  EXPECT_THAT(metrics_.text(), testing::HasSubstr("pdserve_access_log_lost_total " +
                                                  std::to_string(1000 - n / 1000)));
}

TEST_F(AccessLogTest, SaysWhereItCannotWrite) {
  const auto log = AccessLog::open(folder_ / "none" / "log", metrics_);
  ASSERT_FALSE(log);
  EXPECT_THAT(log.error().message, testing::HasSubstr("[gateway] access_log"));
  EXPECT_THAT(log.error().message, testing::HasSubstr((folder_ / "none" / "log").string()));
}

}  // namespace
}  // namespace pd::gateway
