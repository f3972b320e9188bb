#include "transfer/shared_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/machine_memory.h"
#include "transfer/pages.h"

namespace pd::transfer {

namespace {

std::unexpected<Error> short_of_memory(std::size_t bytes, int reason) {
  return error(ErrorCode::kNoCapacity,
               fmt::format("{} bytes of memory for KV transfer: {}; lower the configured size or "
                           "free memory",
                           bytes, std::strerror(reason)));
}

}  // namespace

Result<SharedMemory> SharedMemory::create(Bytes size) {
  const auto bytes = (static_cast<std::size_t>(size.value()) + kPageBytes - 1) & ~(kPageBytes - 1);
  // Nothing else bounds such memory: the kernel would grant it page by page and end processes, this
  // one or others, when none is left.
  if (const auto available = available_memory(); available && size > *available) {
    return error(ErrorCode::kNoCapacity,
                 fmt::format("{} bytes of memory for KV transfer: {} are available; lower the "
                             "configured size or free memory",
                             bytes, available->value()));
  }
  SharedMemory out;
  out.file_.reset(::memfd_create("pdserve-kv", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!out.file_) return short_of_memory(bytes, errno);
  const int file = out.file_.get();
  // Reserved now: a page that cannot be had later would be a signal, not an error.
  if (const int reason = ::posix_fallocate(file, 0, static_cast<off_t>(bytes)); reason != 0) {
    return short_of_memory(bytes, reason);
  }
  if (::fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return short_of_memory(bytes, errno);
  }
  void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (address == MAP_FAILED) return short_of_memory(bytes, errno);
  out.bytes_ = {static_cast<std::byte*>(address), bytes};
  struct stat stat = {};
  if (::fstat(file, &stat) != 0) return short_of_memory(bytes, errno);
  out.key_ = {.process = static_cast<std::uint32_t>(::getpid()),
              .descriptor = static_cast<std::uint32_t>(file),
              .device = stat.st_dev,
              .inode = stat.st_ino};
  return out;
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : file_(std::move(other.file_)), bytes_(std::exchange(other.bytes_, {})), key_(other.key_) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(bytes_, other.bytes_);
  std::swap(key_, other.key_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

std::optional<SharedView> SharedView::open(const SharedMemoryKey& key, std::uint64_t size) {
  // First a look without opening: whatever else the key may name, a pipe or a device, is left
  // alone.
  const std::string path = fmt::format("/proc/{}/fd/{}", key.process, key.descriptor);
  const UniqueFd place(::open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat stat = {};
  if (!place || ::fstat(place.get(), &stat) != 0) return std::nullopt;
  if (!S_ISREG(stat.st_mode) || stat.st_dev != key.device || stat.st_ino != key.inode) {
    return std::nullopt;
  }
  const UniqueFd file(
      ::open(fmt::format("/proc/self/fd/{}", place.get()).c_str(), O_RDONLY | O_CLOEXEC));
  // Without the seal its owner could cut it off under our reads, and a signal would end us.
  const int seals = file ? ::fcntl(file.get(), F_GET_SEALS) : -1;
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) return std::nullopt;
  if (size == 0 || static_cast<std::uint64_t>(stat.st_size) < size) return std::nullopt;
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
  if (address == MAP_FAILED) return std::nullopt;
  SharedView view;
  view.bytes_ = {static_cast<const std::byte*>(address), size};
  return view;
}

SharedView::SharedView(SharedView&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

SharedView& SharedView::operator=(SharedView&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

SharedView::~SharedView() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace pd::transfer
