#include "transfer/pages.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace pd::transfer {

Result<Pages> Pages::create(Bytes size) {
  const auto bytes = (static_cast<std::size_t>(size.value()) + kPageBytes - 1) & ~(kPageBytes - 1);
  void* address =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) {
    return error(
        ErrorCode::kNoCapacity,
        fmt::format("{} bytes for KV transfer: {}; lower the configured size or free memory", bytes,
                    std::strerror(errno)));
  }
  Pages pages;
  pages.memory_ = {static_cast<std::byte*>(address), bytes};
  return pages;
}

Pages::Pages(Pages&& other) noexcept : memory_(std::exchange(other.memory_, {})) {}

Pages& Pages::operator=(Pages&& other) noexcept {
  std::swap(memory_, other.memory_);
  return *this;
}

Pages::~Pages() {
  if (!memory_.empty()) ::munmap(memory_.data(), memory_.size());
}

}  // namespace pd::transfer
