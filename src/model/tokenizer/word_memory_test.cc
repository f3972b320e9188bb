#include "model/tokenizer/word_memory.h"

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/rng.h"

namespace pd::model::tokenizing {
namespace {

using Ids = std::vector<TokenId>;

std::optional<Ids> recalled(const WordMemory& memory, std::string_view word) {
  Ids out{-7};
  if (!memory.append(word, out)) {
    EXPECT_EQ(out, Ids{-7});
    return std::nullopt;
  }
  EXPECT_EQ(out.front(), -7);
  out.erase(out.begin());
  return out;
}

// What a word's ids are, whoever remembers it.
Ids ids_of(std::string_view word) {
  std::uint32_t mixed = static_cast<std::uint32_t>(word.size());
  for (const char c : word) mixed = mixed * 31 + static_cast<unsigned char>(c);
  Ids out;
  for (std::size_t i = 0; i < mixed % (WordMemory::kTokensMax + 1); ++i)
    out.push_back(static_cast<TokenId>(mixed ^ (i * 0x01010101)) & 0x7FFFFFFF);
  return out;
}

TEST(WordMemory, GivesWhatItWasGiven) {
  WordMemory memory;
  EXPECT_FALSE(recalled(memory, "word"));
  memory.remember("word", Ids{5, 0x7FFFFFFF, 0});
  EXPECT_EQ(recalled(memory, "word"), (Ids{5, 0x7FFFFFFF, 0}));
  EXPECT_FALSE(recalled(memory, "wor"));
  memory.remember("nothing", {});
  EXPECT_EQ(recalled(memory, "nothing"), Ids{});
}

TEST(WordMemory, ZerosBehindAWordMakeItAnother) {
  WordMemory memory;
  using namespace std::string_view_literals;
  memory.remember("a", Ids{1});
  EXPECT_FALSE(recalled(memory, "a\0"sv));
  memory.remember("a\0"sv, Ids{2});
  EXPECT_NE(recalled(memory, "a"), Ids{2});
  EXPECT_EQ(recalled(memory, "a\0"sv), Ids{2});
  EXPECT_FALSE(recalled(memory, ""));
}

TEST(WordMemory, KeepsNothingBeyondItsLimits) {
  WordMemory memory;
  const std::string longest(WordMemory::kWordBytesMax, 'x');
  const Ids most(WordMemory::kTokensMax, 3);
  memory.remember(longest, most);
  EXPECT_EQ(recalled(memory, longest), most);
  memory.remember(longest + "x", Ids{1});
  EXPECT_FALSE(recalled(memory, longest + "x"));
  memory.remember("many", Ids(WordMemory::kTokensMax + 1, 3));
  EXPECT_FALSE(recalled(memory, "many"));
}

TEST(WordMemory, WordsDisplaceOneAnotherAndAreNeverMixedUp) {
  WordMemory memory;
  Rng rng(11);
  std::size_t found = 0;
  for (int i = 0; i < 200'000; ++i) {
    const std::string word =
        std::to_string(rng.below(20'000)) + (rng.below(2) != 0 ? "\xE2\x96\x81" : "");
    if (const auto ids = recalled(memory, word)) {
      ++found;
      ASSERT_EQ(*ids, ids_of(word)) << word;
    } else {
      memory.remember(word, ids_of(word));
    }
  }
  EXPECT_GT(found, 1'000u);
  EXPECT_LT(found, 199'000u);
}

// More words than places, so that writers and readers meet in the same places.
TEST(WordMemory, ThreadsSeeWholeWordsOnly) {
  WordMemory memory;
  std::atomic<int> wrong = 0;
  std::atomic<int> found = 0;
  const auto work = [&](std::uint64_t seed) {
    Rng rng(seed);
    for (int i = 0; i < 300'000; ++i) {
      const std::string word = "w" + std::to_string(rng.below(40'000));
      Ids ids;
      if (rng.below(2) != 0) {
        memory.remember(word, ids_of(word));
      } else if (memory.append(word, ids)) {
        ++found;
        if (ids != ids_of(word)) ++wrong;
      }
    }
  };
  std::vector<std::jthread> threads;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) threads.emplace_back(work, seed);
  threads.clear();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(found, 0);
}

}  // namespace
}  // namespace pd::model::tokenizing
