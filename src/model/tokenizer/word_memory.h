// Words that were encoded lately and what came out: texts repeat their words, merging one costs
// some thousand instructions and looking it up a few dozen. Of fixed size; a word displaces the one
// that has its place. Any number of threads may look up and remember at once: whoever comes in
// between finds nothing, never something half.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/units.h"

namespace pd::model::tokenizing {

class WordMemory {
 public:
  static constexpr std::size_t kWordBytesMax = 24;
  static constexpr std::size_t kTokensMax = 8;

  WordMemory() : places_(std::make_unique<Place[]>(kPlaces)) {}

  // Appends the ids of `word`; false, and no change, if they are not remembered.
  bool append(std::string_view word, std::vector<TokenId>& out) const;
  // Nothing is kept of a word of more bytes, or with more tokens, than the limits above.
  void remember(std::string_view word, std::span<const TokenId> ids);

 private:
  using Letters = std::array<std::uint64_t, kWordBytesMax / 8>;
  // One line of the cache. `state`: how often the place was taken, odd while a writer is at it, in
  // the upper half; the word's bytes and its number of tokens in the lower.
  struct alignas(64) Place {
    std::atomic<std::uint64_t> state{0};
    std::array<std::atomic<std::uint64_t>, kWordBytesMax / 8> letters{};
    std::array<std::atomic<std::uint64_t>, kTokensMax / 2> ids{};
  };
  static constexpr int kPlaceBits = 12;
  static constexpr std::size_t kPlaces = std::size_t{1} << kPlaceBits;  // 256 KiB

  static Letters letters_of(std::string_view word);
  static std::size_t place_of(const Letters& letters);

  std::unique_ptr<Place[]> places_;
};

}  // namespace pd::model::tokenizing
