#include "load/prompt.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "base/rng.h"

namespace pd::load {
namespace {

// Frequent, short, plain: one token each, with their space, in the vocabularies of today's models.
constexpr auto kWords = std::to_array<std::string_view>(
    {"the",  "of",    "and",   "a",     "to",     "in",    "is",    "you",   "that",   "it",
     "he",   "was",   "for",   "on",    "are",    "as",    "with",  "his",   "they",   "at",
     "be",   "this",  "have",  "from",  "or",     "one",   "had",   "by",    "word",   "but",
     "not",  "what",  "all",   "were",  "we",     "when",  "your",  "can",   "said",   "there",
     "use",  "an",    "each",  "which", "she",    "do",    "how",   "their", "if",     "will",
     "up",   "other", "about", "out",   "many",   "then",  "them",  "these", "so",     "some",
     "her",  "would", "make",  "like",  "him",    "into",  "time",  "has",   "look",   "two",
     "more", "write", "go",    "see",   "number", "no",    "way",   "could", "people", "my",
     "than", "first", "water", "been",  "call",   "who",   "oil",   "its",   "now",    "find",
     "long", "down",  "day",   "did",   "get",    "come",  "made",  "may",   "part",   "over",
     "new",  "sound", "take",  "only",  "little", "work",  "know",  "place", "year",   "live",
     "me",   "back",  "give",  "most",  "very",   "after", "thing", "our",   "just",   "name",
     "good", "man",   "think", "say",   "great",  "where", "help",  "much"});
static_assert(kWords.size() == 128, "seven random bits choose one");

}  // namespace

void append_words(std::string& out, std::uint64_t seed, std::uint32_t count) {
  Rng rng(seed);
  std::uint64_t bits = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (i % 9 == 0) bits = rng.next();
    out += ' ';
    out += kWords[bits & 127];
    bits >>= 7;
  }
}

std::string text_of(const std::vector<Piece>& pieces, const TokenRate& rate,
                    std::uint64_t text_seed) {
  std::string out;
  double owed = -rate.overhead / rate.per_word;  // words still to be written, or written too many
  for (const Piece& piece : pieces) {
    owed += piece.tokens / rate.per_word;
    const double words = std::max(0.0, std::round(owed));
    append_words(out, counter_random(text_seed, piece.seed), static_cast<std::uint32_t>(words));
    // The remainder goes with the next piece, but not into its own words' place in the text.
    owed -= words;
  }
  const std::uint64_t first = pieces.empty() ? 0 : pieces.front().seed;
  if (out.empty()) append_words(out, counter_random(text_seed, first), 1);
  return out;
}

}  // namespace pd::load
