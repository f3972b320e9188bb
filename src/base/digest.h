// XXH3 digests: integrity of KV in flight and identity of weights. Not cryptographic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace pd {

std::uint64_t digest64(std::span<const std::byte> bytes, std::uint64_t seed = 0);

// The same digest over pieces: update() in order, then value().
class Digest64 {
 public:
  explicit Digest64(std::uint64_t seed = 0);
  ~Digest64();
  void update(std::span<const std::byte> bytes);
  std::uint64_t value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pd
