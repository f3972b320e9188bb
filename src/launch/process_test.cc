#include "launch/process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace pd::launch {
namespace {

ProcessSpec shell(const std::string& script) { return {.argv = {"/bin/sh", "-c", script}}; }

TEST(Process, TellsHowItEnded) {
  auto exited = Process::start(shell("exit 3"));
  ASSERT_TRUE(exited) << exited.error().message;
  EXPECT_EQ(to_string(exited->wait()), "exit status 3");
  auto killed = Process::start(shell("exec sleep 100"));
  ASSERT_TRUE(killed);
  EXPECT_FALSE(killed->poll().has_value());
  killed->kill();
  pollfd fd{killed->exit_fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&fd, 1, 10'000), 1);
  ASSERT_TRUE(killed->poll());
  EXPECT_EQ(to_string(*killed->poll()), "killed by signal 9 (Killed)");
}

TEST(Process, AProgramThatIsNotThereIsAnError) {
  const auto process = Process::start({.argv = {"/nonexistent/program"}});
  ASSERT_FALSE(process);
  EXPECT_EQ(process.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(process.error().message, testing::HasSubstr("/nonexistent/program"));
}

TEST(Process, OutputGoesToItsLog) {
  const auto log = std::filesystem::path(testing::TempDir()) / "process_test.log";
  std::filesystem::remove(log);
  ProcessSpec spec = shell("echo one; echo two >&2");
  spec.log_file = log;
  auto process = Process::start(spec);
  ASSERT_TRUE(process);
  EXPECT_TRUE(process->wait().clean());
  EXPECT_EQ(tail_of(log, 1000), "one\ntwo");
  EXPECT_EQ(tail_of(log, 5), "two");
}

TEST(Process, InheritsOnlyWhatItIsGiven) {
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  UniqueFd read_end(fds[0]), write_end(fds[1]);
  UniqueFd other(::open("/dev/null", O_RDONLY));
  ProcessSpec spec = shell("echo hi >&" + std::to_string(write_end.get()) +
                           "; test ! -e /proc/self/fd/" + std::to_string(other.get()));
  spec.keep_open = {write_end.get()};
  auto process = Process::start(spec);
  ASSERT_TRUE(process);
  EXPECT_EQ(to_string(process->wait()), "exit status 0");
  char buffer[3] = {};
  EXPECT_EQ(::read(read_end.get(), buffer, 3), 3);
  EXPECT_EQ(std::string(buffer, 2), "hi");
}

TEST(Process, DiesWithItsParentHoweverThatDies) {
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  UniqueFd read_end(fds[0]), write_end(fds[1]);
  const pid_t parent = ::fork();
  ASSERT_GE(parent, 0);
  if (parent == 0) {
    ProcessSpec spec = shell("exec sleep 100");
    spec.keep_open = {write_end.get()};
    auto child = Process::start(spec);
    ::kill(::getpid(), SIGKILL);
  }
  write_end.reset();
  char byte = 0;
  EXPECT_EQ(::read(read_end.get(), &byte, 1), 0) << "end of file once the grandchild is gone";
  ::waitpid(parent, nullptr, 0);
}

TEST(Process, DestructionKillsAndReaps) {
  pid_t pid = 0;
  {
    auto process = Process::start(shell("exec sleep 100"));
    ASSERT_TRUE(process);
    pid = process->pid();
  }
  EXPECT_EQ(::kill(pid, 0), -1);
}

}  // namespace
}  // namespace pd::launch
