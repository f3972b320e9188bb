// Little-endian fields in a byte string, for the fixed-schema messages of this module. The reader
// checks every length against what is there before it allocates.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

namespace pd::protocol {

static_assert(std::endian::native == std::endian::little, "wire integers are copied as they are");

class WireWriter {
 public:
  explicit WireWriter(std::string& out) : out_(out) {}
  template <typename T>
    requires std::is_arithmetic_v<T>
  void number(T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    out_.append(bytes, sizeof(T));
  }
  void bytes(std::string_view value) {
    number(static_cast<std::uint32_t>(value.size()));
    out_.append(value);
  }
  // A list of plain values: count, then the values.
  template <typename List>
  void numbers(const List& values) {
    number(static_cast<std::uint32_t>(values.size()));
    out_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0]));
  }

 private:
  std::string& out_;
};

// After the first failure every read returns a zero value and ok() is false; failed_field() names
// the first.
class WireReader {
 public:
  explicit WireReader(std::string_view in) : in_(in) {}
  template <typename T>
    requires std::is_arithmetic_v<T>
  T number(const char* field) {
    T value{};
    if (!need(sizeof(T), field)) return value;
    std::memcpy(&value, in_.data(), sizeof(T));
    in_.remove_prefix(sizeof(T));
    return value;
  }
  std::string_view bytes(const char* field, std::size_t limit) {
    const auto size = number<std::uint32_t>(field);
    if (size > limit || !need(size, field)) {
      fail(field);
      return {};
    }
    const std::string_view out = in_.substr(0, size);
    in_.remove_prefix(size);
    return out;
  }
  // A count that is plausible: at least `item_bytes` per item must follow.
  std::uint32_t count(const char* field, std::size_t limit, std::size_t item_bytes) {
    const auto n = number<std::uint32_t>(field);
    if (n > limit || in_.size() / item_bytes < n) {
      fail(field);
      return 0;
    }
    return n;
  }
  template <typename List>
  void numbers(List& out, const char* field, std::size_t limit) {
    using T = typename List::value_type;
    const std::uint32_t n = count(field, limit, sizeof(T));
    out.resize(n);
    if (n > 0) std::memcpy(out.data(), in_.data(), n * sizeof(T));
    in_.remove_prefix(n * sizeof(T));
  }
  void require(bool condition, const char* field) {
    if (!condition) fail(field);
  }
  void end() {
    if (!in_.empty()) fail("end of message");
  }
  bool ok() const { return failed_ == nullptr; }
  const char* failed_field() const { return failed_; }

 private:
  bool need(std::size_t size, const char* field) {
    if (failed_ != nullptr || in_.size() < size) {
      fail(field);
      return false;
    }
    return true;
  }
  void fail(const char* field) {
    if (failed_ == nullptr) failed_ = field;
    in_ = {};
  }
  std::string_view in_;
  const char* failed_ = nullptr;
};

}  // namespace pd::protocol
