#include "transfer/send_buffer.h"

#include <iterator>

#include "base/check.h"

namespace pd::transfer {

SendBuffer::SendBuffer(Bytes capacity, Bytes alignment)
    : alignment_(static_cast<std::uint64_t>(alignment.value())) {
  CHECK(capacity.value() >= 0);
  CHECK(alignment.value() > 0);
  CHECK((alignment_ & (alignment_ - 1)) == 0);
  capacity_ = static_cast<std::uint64_t>(capacity.value()) & ~(alignment_ - 1);
  if (capacity_ > 0) add_gap(0, capacity_);
}

std::optional<std::uint64_t> SendBuffer::reserve(Bytes size) {
  CHECK(size.value() >= 1);
  // Compared before rounding up, which could overflow.
  const auto wanted = static_cast<std::uint64_t>(size.value());
  if (wanted > capacity_) return std::nullopt;
  const std::uint64_t rounded = (wanted + alignment_ - 1) & ~(alignment_ - 1);
  const auto best = fit_.lower_bound({rounded, 0});
  if (best == fit_.end()) return std::nullopt;
  const auto [gap_size, offset] = *best;
  remove_gap(gaps_.find(offset));
  if (gap_size > rounded) add_gap(offset + rounded, gap_size - rounded);
  held_.emplace(offset, rounded);
  used_ += rounded;
  return offset;
}

void SendBuffer::release(std::uint64_t offset) {
  const auto held = held_.find(offset);
  CHECK(held != held_.end());
  std::uint64_t start = offset;
  std::uint64_t size = held->second;
  used_ -= size;
  held_.erase(held);
  auto after = gaps_.lower_bound(offset);
  if (after != gaps_.end() && after->first == start + size) {
    size += after->second;
    remove_gap(after);
    after = gaps_.lower_bound(offset);
  }
  if (after != gaps_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == start) {
      start = before->first;
      size += before->second;
      remove_gap(before);
    }
  }
  add_gap(start, size);
}

Bytes SendBuffer::largest_gap() const {
  return Bytes(fit_.empty() ? 0 : static_cast<std::int64_t>(fit_.rbegin()->first));
}

void SendBuffer::add_gap(std::uint64_t offset, std::uint64_t size) {
  gaps_.emplace(offset, size);
  fit_.emplace(size, offset);
}

void SendBuffer::remove_gap(std::map<std::uint64_t, std::uint64_t>::iterator gap) {
  fit_.erase({gap->second, gap->first});
  gaps_.erase(gap);
}

}  // namespace pd::transfer
