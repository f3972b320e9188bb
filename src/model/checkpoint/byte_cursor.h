// Reads little-endian numbers and length-prefixed strings from untrusted bytes. Nothing is read
// past the end: a failed read leaves the position where it was and returns nullopt.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

namespace pd::model {

static_assert(std::endian::native == std::endian::little, "weight files are little-endian");

class ByteCursor {
 public:
  explicit ByteCursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::size_t position() const { return position_; }
  std::size_t remaining() const { return bytes_.size() - position_; }

  template <typename T>
  std::optional<T> number() {
    if (remaining() < sizeof(T)) return std::nullopt;
    T value{};
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  // A 64-bit length and that many bytes, at most `limit`. The view points into the bytes.
  std::optional<std::string_view> text(std::size_t limit) {
    const std::size_t start = position_;
    const auto length = number<std::uint64_t>();
    if (!length) return std::nullopt;
    if (*length > remaining() || *length > limit) {
      position_ = start;
      return std::nullopt;
    }
    const std::string_view out(reinterpret_cast<const char*>(bytes_.data() + position_),
                               static_cast<std::size_t>(*length));
    position_ += out.size();
    return out;
  }

 private:
  std::span<const std::byte> bytes_;
  std::size_t position_ = 0;
};

}  // namespace pd::model
