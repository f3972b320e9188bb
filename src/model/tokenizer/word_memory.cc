#include "model/tokenizer/word_memory.h"

#include <bit>
#include <cstring>

namespace pd::model::tokenizing {
namespace {

constexpr std::uint64_t kTaken = std::uint64_t{1} << 32;
constexpr std::uint64_t kContentMask = kTaken - 1;

bool being_written(std::uint64_t state) { return (state & kTaken) != 0; }
template <typename Number>
Number read(const char* from) {
  Number out;
  std::memcpy(&out, from, sizeof(out));
  return out;
}

std::uint64_t content_of(std::size_t bytes, std::size_t tokens) { return bytes << 8 | tokens; }

}  // namespace

// Of words of one length no two have the same letters: the last eight bytes may overlap the ones
// before, and a word of less than eight is one number. Without a loop or a call.
WordMemory::Letters WordMemory::letters_of(std::string_view word) {
  const char* const data = word.data();
  const std::size_t size = word.size();
  if (size >= 8) {
    const std::uint64_t middle = size > 16 ? read<std::uint64_t>(data + 8) : 0;
    return {read<std::uint64_t>(data), middle, read<std::uint64_t>(data + size - 8)};
  }
  if (size >= 4) {
    const std::uint64_t last = read<std::uint32_t>(data + size - 4);
    return {read<std::uint32_t>(data) | last << 32, 0, 0};
  }
  const auto at = [&](std::size_t i) { return std::uint64_t{static_cast<unsigned char>(data[i])}; };
  return {at(0) | at(size / 2) << 8 | at(size - 1) << 16, 0, 0};
}

std::size_t WordMemory::place_of(const Letters& letters) {
  constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15ULL;
  std::uint64_t mixed = 0;
  for (const std::uint64_t letter : letters) mixed = (std::rotl(mixed, 29) ^ letter) * kOdd;
  return mixed >> (64 - kPlaceBits);
}

// The order of the accesses is what makes this right: each store of a writer releases the odd state
// before it, each load of a reader acquires it. A reader that saw anything of a writer's sees at
// the end that the state has changed.
bool WordMemory::append(std::string_view word, std::vector<TokenId>& out) const {
  if (word.empty() || word.size() > kWordBytesMax) return false;
  const Letters letters = letters_of(word);
  const Place& place = places_[place_of(letters)];
  const std::uint64_t state = place.state.load(std::memory_order_acquire);
  const std::size_t count = state & 0xFF;
  if (being_written(state) || (state & kContentMask) != content_of(word.size(), count))
    return false;
  for (std::size_t i = 0; i < letters.size(); ++i) {
    if (place.letters[i].load(std::memory_order_acquire) != letters[i]) return false;
  }
  std::array<TokenId, kTokensMax> ids;
  for (std::size_t i = 0; i < count; i += 2) {
    const std::uint64_t pair = place.ids[i / 2].load(std::memory_order_acquire);
    ids[i] = static_cast<TokenId>(static_cast<std::uint32_t>(pair));
    ids[i + 1] = static_cast<TokenId>(pair >> 32);
  }
  if (place.state.load(std::memory_order_relaxed) != state) return false;
  out.insert(out.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count));
  return true;
}

void WordMemory::remember(std::string_view word, std::span<const TokenId> ids) {
  if (word.empty() || word.size() > kWordBytesMax || ids.size() > kTokensMax) return;
  const Letters letters = letters_of(word);
  Place& place = places_[place_of(letters)];
  std::uint64_t state = place.state.load(std::memory_order_relaxed);
  // Another writer is at it: either's word may stay.
  if (being_written(state) ||
      !place.state.compare_exchange_strong(state, state + kTaken, std::memory_order_relaxed)) {
    return;
  }
  for (std::size_t i = 0; i < letters.size(); ++i) {
    place.letters[i].store(letters[i], std::memory_order_release);
  }
  for (std::size_t i = 0; i < ids.size(); i += 2) {
    const std::uint64_t second =
        i + 1 < ids.size() ? std::uint64_t{static_cast<std::uint32_t>(ids[i + 1])} << 32 : 0;
    place.ids[i / 2].store(second | static_cast<std::uint32_t>(ids[i]), std::memory_order_release);
  }
  const std::uint64_t taken = (state & ~kContentMask) + 2 * kTaken;
  place.state.store(taken | content_of(word.size(), ids.size()), std::memory_order_release);
}

}  // namespace pd::model::tokenizing
