#include "gateway/access_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

namespace pd::gateway {
namespace {

namespace fs = std::filesystem;

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

TEST_F(AccessLogTest, SaysWhereItCannotWrite) {
  const auto log = AccessLog::open(folder_ / "none" / "log", metrics_);
  ASSERT_FALSE(log);
  EXPECT_THAT(log.error().message, testing::HasSubstr("[gateway] access_log"));
  EXPECT_THAT(log.error().message, testing::HasSubstr((folder_ / "none" / "log").string()));
}

}  // namespace
}  // namespace pd::gateway
