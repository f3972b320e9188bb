// Ids and amounts as types: an index, a count and a size do not convert into each other.
//   Tokens prompt{120};  prompt.value() == 120;  prompt + Tokens{1};  blocks_for(prompt, per_block)
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace pd {

// An amount: adds, subtracts, compares with its own kind only.
template <typename Tag, typename Rep = std::int64_t>
class Amount {
 public:
  using rep = Rep;
  constexpr Amount() = default;
  constexpr explicit Amount(Rep value) : value_(value) {}
  constexpr Rep value() const { return value_; }
  constexpr auto operator<=>(const Amount&) const = default;
  constexpr Amount& operator+=(Amount other) {
    value_ += other.value_;
    return *this;
  }
  constexpr Amount& operator-=(Amount other) {
    value_ -= other.value_;
    return *this;
  }
  friend constexpr Amount operator+(Amount a, Amount b) { return Amount(a.value_ + b.value_); }
  friend constexpr Amount operator-(Amount a, Amount b) { return Amount(a.value_ - b.value_); }
  friend constexpr Amount operator*(Amount a, Rep b) { return Amount(a.value_ * b); }

 private:
  Rep value_ = 0;
};

// An identity: compares and hashes, no arithmetic.
template <typename Tag, typename Rep = std::uint64_t>
class Id {
 public:
  using rep = Rep;
  constexpr Id() = default;
  constexpr explicit Id(Rep value) : value_(value) {}
  constexpr Rep value() const { return value_; }
  constexpr auto operator<=>(const Id&) const = default;

 private:
  Rep value_ = 0;
};

using Tokens = Amount<struct TokensTag>;          // number of tokens
using Bytes = Amount<struct BytesTag>;            // number of bytes
using BlockCount = Amount<struct BlockCountTag>;  // number of KV blocks

using TokenId = std::int32_t;                                // index into a vocabulary
using BlockIndex = Id<struct BlockIndexTag, std::uint32_t>;  // position of a block in its pool
using BootId = Id<struct BootIdTag>;  // random, new at each start of an instance; 0 = none
using Epoch = Id<struct EpochTag>;    // makes an old write or read recognisable
using WorkerId =
    Id<struct WorkerIdTag>;  // an instance as the control plane numbers it, never reused

// 128 bits: unique over all gateways and time, drawn at random by the gateway.
struct RequestId {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  constexpr auto operator<=>(const RequestId&) const = default;
};

// Blocks that hold `length` tokens, rounded up.
constexpr BlockCount blocks_for(Tokens length, Tokens per_block) {
  return BlockCount((length.value() + per_block.value() - 1) / per_block.value());
}

}  // namespace pd

template <typename Tag, typename Rep>
struct std::hash<pd::Id<Tag, Rep>> {
  std::size_t operator()(pd::Id<Tag, Rep> id) const noexcept {
    return std::hash<Rep>()(id.value());
  }
};
template <>
struct std::hash<pd::RequestId> {
  std::size_t operator()(const pd::RequestId& id) const noexcept {
    return id.high ^ (id.low * 0x9E3779B97F4A7C15ULL);
  }
};
