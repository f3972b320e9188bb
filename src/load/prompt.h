// Texts of a wanted number of words, the same for the same seed: what prompts are put together
// from. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pd::load {

// A stretch of a prompt. Requests whose prompts begin with equal pieces have equal text there, so
// a prefix cache can serve it.
struct Piece {
  std::uint64_t seed = 0;
  std::uint32_t tokens = 0;
};

// How the server counts: tokens = overhead + per_word * words. What an endpoint adds by itself
// (chat template, begin of sequence) is the overhead.
struct TokenRate {
  double per_word = 1;
  double overhead = 0;
};

// `count` words, each with a space before it.
void append_words(std::string& out, std::uint64_t seed, std::uint32_t count);

// The text of the pieces; of a prompt's first piece the overhead is taken off. A prompt has at
// least one word. Another `text_seed` gives other words, and equal pieces are equal within each.
std::string text_of(const std::vector<Piece>& pieces, const TokenRate& rate,
                    std::uint64_t text_seed);

}  // namespace pd::load
