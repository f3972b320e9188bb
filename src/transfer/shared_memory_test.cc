#include "transfer/shared_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace pd::transfer {
namespace {

TEST(SharedMemory, AViewShowsWhatTheOwnerWrites) {
  SharedMemory memory = SharedMemory::create(Bytes(10000)).value();
  EXPECT_EQ(memory.bytes().size(), 12288U);
  EXPECT_TRUE(std::ranges::all_of(memory.bytes(), [](std::byte b) { return b == std::byte{0}; }));
  const auto view = SharedView::open(memory.key(), 10000);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->bytes().size(), 10000U);
  memory.bytes()[9999] = std::byte{7};
  EXPECT_EQ(view->bytes()[9999], std::byte{7});
}

TEST(SharedMemory, AViewOutlivesTheOwner) {
  std::optional<SharedMemory> memory = SharedMemory::create(Bytes(4096)).value();
  memory->bytes()[0] = std::byte{9};
  const SharedMemoryKey key = memory->key();
  const auto view = SharedView::open(key, 4096);
  ASSERT_TRUE(view);
  memory.reset();
  EXPECT_EQ(view->bytes()[0], std::byte{9});
  EXPECT_FALSE(SharedView::open(key, 4096));
}

TEST(SharedMemory, ItsSizeCannotChangeUnderAReader) {
  const SharedMemory memory = SharedMemory::create(Bytes(8192)).value();
  const int file = static_cast<int>(memory.key().descriptor);
  EXPECT_NE(::ftruncate(file, 4096), 0);
  EXPECT_NE(::ftruncate(file, 1 << 20), 0);
}

TEST(SharedView, AKeyThatLiesOpensNothing) {
  const SharedMemory memory = SharedMemory::create(Bytes(8192)).value();
  const auto opens = [&memory](auto change, std::uint64_t size = 8192) {
    SharedMemoryKey key = memory.key();
    change(key);
    return SharedView::open(key, size).has_value();
  };
  EXPECT_TRUE(opens([](auto&) {}));
  EXPECT_FALSE(opens([](auto&) {}, 8193));
  EXPECT_FALSE(opens([](auto&) {}, ~0ULL));
  EXPECT_FALSE(opens([](auto&) {}, 0));
  EXPECT_FALSE(opens([](auto& k) { ++k.inode; }));
  EXPECT_FALSE(opens([](auto& k) { ++k.device; }));
  EXPECT_FALSE(opens([](auto& k) { k.process = 0x7fffffff; }));
  EXPECT_FALSE(opens([](auto& k) { k.descriptor = 0x7fffffff; }));
}

TEST(SharedView, FilesThatCouldShrinkAndThingsThatAreNoFilesAreLeftAlone) {
  const auto key_of = [](int file) {
    struct stat stat = {};
    EXPECT_EQ(::fstat(file, &stat), 0);
    return SharedMemoryKey{static_cast<std::uint32_t>(::getpid()), static_cast<std::uint32_t>(file),
                           stat.st_dev, stat.st_ino};
  };
  const UniqueFd open_ended(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(open_ended.get(), 4096), 0);
  EXPECT_FALSE(SharedView::open(key_of(open_ended.get()), 4096));
  const UniqueFd program(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(SharedView::open(key_of(program.get()), 4096));
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  const UniqueFd read_end(pipe[0]);
  const UniqueFd write_end(pipe[1]);
  EXPECT_FALSE(SharedView::open(key_of(read_end.get()), 4096));
}

TEST(SharedMemory, MoreThanThereIsIsAnError) {
  // Refused by comparing: a test must not find out by taking it.
  const auto memory = SharedMemory::create(Bytes(1LL << 50));
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, ErrorCode::kNoCapacity);
  EXPECT_NE(memory.error().message.find("available"), std::string::npos);
}

}  // namespace
}  // namespace pd::transfer
