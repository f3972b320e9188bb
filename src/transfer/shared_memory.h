// Memory that other processes of this user on this host may map, read-only. It has no name in any
// file system, is not bounded by /dev/shm, and its size is sealed: a reader cannot be made to touch
// a page that is not there. Linux memfd, shared through /proc/PID/fd.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"
#include "base/units.h"

namespace pd::transfer {

// Where another process finds it, and by what it knows that it found the right one.
struct SharedMemoryKey {
  std::uint32_t process = 0;
  std::uint32_t descriptor = 0;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  bool operator==(const SharedMemoryKey&) const = default;
};

// Owned by the process that made it.
class SharedMemory {
 public:
  // Zeroed whole pages, reserved: using them later cannot fail. kNoCapacity: not that much memory
  // is available to this process now.
  static Result<SharedMemory> create(Bytes size);
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  std::span<std::byte> bytes() const { return bytes_; }
  const SharedMemoryKey& key() const { return key_; }

 private:
  SharedMemory() = default;
  UniqueFd file_;
  std::span<std::byte> bytes_;
  SharedMemoryKey key_;
};

// Another process's memory, mapped here. It stays as it was when its owner dies.
class SharedView {
 public:
  // nullopt: not reachable from here (another host, user or process namespace, or its owner is
  // gone), or not what the key says. The key is untrusted.
  static std::optional<SharedView> open(const SharedMemoryKey& key, std::uint64_t size);
  SharedView(SharedView&& other) noexcept;
  SharedView& operator=(SharedView&& other) noexcept;
  ~SharedView();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  SharedView() = default;
  std::span<const std::byte> bytes_;
};

}  // namespace pd::transfer
