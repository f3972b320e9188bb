// Anonymous memory in whole pages, zeroed, given back to the kernel at the end.
#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"
#include "base/units.h"

namespace pd::transfer {

inline constexpr std::size_t kPageBytes = 4096;

class Pages {
 public:
  Pages() = default;
  // kNoCapacity: the kernel refuses. `size` is rounded up to pages.
  static Result<Pages> create(Bytes size);
  Pages(Pages&& other) noexcept;
  Pages& operator=(Pages&& other) noexcept;
  ~Pages();

  std::span<std::byte> memory() const { return memory_; }
  bool empty() const { return memory_.empty(); }

 private:
  std::span<std::byte> memory_;
};

}  // namespace pd::transfer
