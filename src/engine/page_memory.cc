#include "engine/page_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace pd::engine {

Result<PageMemory> PageMemory::create(Bytes size, std::string_view purpose) {
  if (size.value() < 0) {
    return error(ErrorCode::kInvalidArgument, fmt::format("{}: negative size", purpose));
  }
  if (size.value() == 0) return PageMemory(std::span<std::byte>{});
  const auto length = static_cast<std::size_t>(size.value());
  void* at = ::mmap(nullptr, length, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    return error(ErrorCode::kNoCapacity,
                 fmt::format("{}: the system refused {} MiB ({}); configure less", purpose,
                             length >> 20, std::strerror(errno)));
  }
  // Fewer TLB misses where the kernel has huge pages; where not, nothing is lost.
  ::madvise(at, length, MADV_HUGEPAGE);
  return PageMemory({static_cast<std::byte*>(at), length});
}

PageMemory::PageMemory(PageMemory&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

PageMemory& PageMemory::operator=(PageMemory&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

PageMemory::~PageMemory() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

}  // namespace pd::engine
