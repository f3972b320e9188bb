// Randomness from one seed. Rng is a stream; counter_random is a function of (seed, counter), so
// that a token's draw does not depend on who draws it or how many draws came before
// (docs/architecture.md).
#pragma once

#include <cstdint>

namespace pd {

// SplitMix64 finaliser: a bijection of 64 bits whose output bits all depend on all input bits.
// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
constexpr std::uint64_t mix64(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

// 64 random bits for (seed, counter); equal arguments give equal bits on every machine.
constexpr std::uint64_t counter_random(std::uint64_t seed, std::uint64_t counter) {
  return mix64(mix64(seed) ^ mix64(~counter));
}

// Uniform in [0, 1) with 53 bits.
constexpr double to_unit(std::uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1.0p-53; }

class Rng {
 public:
  explicit constexpr Rng(std::uint64_t seed) : state_(seed) {}
  constexpr std::uint64_t next() {
    const std::uint64_t out = mix64(state_);
    state_ += 0x9E3779B97F4A7C15ULL;
    return out;
  }
  // Uniform in [0, bound); bound >= 1. Multiply-shift (Lemire 2019), bias below 2^-64 * bound.
  constexpr std::uint64_t below(std::uint64_t bound) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>((static_cast<Wide>(next()) * bound) >> 64);
  }
  constexpr double unit() { return to_unit(next()); }

 private:
  std::uint64_t state_;
};

}  // namespace pd
