// A large zeroed range straight from the kernel: pages are taken when they are first touched, so a
// pool costs what is used of it.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "base/result.h"
#include "base/units.h"

namespace pd::engine {

class PageMemory {
 public:
  // `purpose` goes into the error's message. kNoCapacity when the kernel refuses. A size of 0 is an
  // empty range.
  static Result<PageMemory> create(Bytes size, std::string_view purpose);

  PageMemory(PageMemory&& other) noexcept;
  PageMemory& operator=(PageMemory&& other) noexcept;
  ~PageMemory();

  std::span<std::byte> bytes() const { return bytes_; }  // page-aligned

 private:
  explicit PageMemory(std::span<std::byte> bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes_;
};

}  // namespace pd::engine
