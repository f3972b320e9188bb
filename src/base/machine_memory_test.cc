#include "base/machine_memory.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

namespace pd {
namespace {

namespace fs = std::filesystem;

class MachineMemory : public testing::Test {
 protected:
  MachineMemory() {
    std::string pattern = (fs::temp_directory_path() / "pdserve-memory-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~MachineMemory() override { fs::remove_all(root_); }

  void write(const fs::path& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  fs::path root_;
};

TEST_F(MachineMemory, IsTheHostsEstimateWithoutALimit) {
  EXPECT_EQ(available_memory(root_), std::nullopt);
  write("proc/meminfo", "MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:   4000 kB\n");
  EXPECT_EQ(available_memory(root_), Bytes(4000 * 1024));
  write("sys/fs/cgroup/memory.max", "max\n");
  write("sys/fs/cgroup/memory.current", "100000000\n");
  EXPECT_EQ(available_memory(root_), Bytes(4000 * 1024));
}

TEST_F(MachineMemory, IsWhatTheControlGroupLeaves) {
  write("proc/meminfo", "MemAvailable:   4000 kB\n");
  write("sys/fs/cgroup/memory.max", "3000000\n");
  write("sys/fs/cgroup/memory.current", "2500000\n");
  EXPECT_EQ(available_memory(root_), Bytes(500000));
  write("sys/fs/cgroup/memory.stat", "anon 2000000\ninactive_file 400000\nactive_file 100\n");
  EXPECT_EQ(available_memory(root_), Bytes(900000));
  write("sys/fs/cgroup/memory.current", "9500000\n");
  EXPECT_EQ(available_memory(root_), Bytes(0));
}

TEST_F(MachineMemory, OfThisMachineIsKnown) {
  const auto available = available_memory();
  ASSERT_TRUE(available);
  EXPECT_GT(*available, Bytes(1 << 20));
}

}  // namespace
}  // namespace pd
