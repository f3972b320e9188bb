// Byte pair encoding: one word to token ids. Merges are ranked pairs (Hugging Face, GGUF `gpt2`) or
// follow from the tokens' scores (SentencePiece in GGUF, `llama`).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "model/tokenizer/merge.h"
#include "model/tokenizer/text_table.h"
#include "model/tokenizer/vocabulary.h"
#include "model/tokenizer/word_memory.h"

namespace pd::model::tokenizing {

struct BpeRules {
  bool byte_level = false;     // words are bytes, the vocabulary is written in the byte alphabet
  bool ignore_merges = false;  // a word that is a token is that token, reachable by merges or not
  bool byte_fallback = false;  // a character outside the vocabulary becomes its <0xHH> tokens
  bool fuse_unk = false;       // neighbouring unknown characters become one unknown token
  std::optional<TokenId> unk;  // without it, unknown characters are left out
};

struct RankedMerge {  // in the order of their rank
  TokenId left = 0;
  TokenId right = 0;
  TokenId merged = 0;  // its text is left's and right's
};

enum class DuplicateMerge { kFirstCounts, kLastCounts };

class BpeModel {
 public:
  static BpeModel from_merges(const Vocabulary& vocabulary, std::span<const RankedMerge> merges,
                              DuplicateMerge duplicates, BpeRules rules);
  // `scores` by id, finite; `in_text[id]`: the token may come out of text (not a control token).
  static BpeModel from_scores(const Vocabulary& vocabulary, std::span<const double> scores,
                              const std::vector<bool>& in_text, BpeRules rules);

  // Appends the ids of `word`: bytes if byte_level, else valid UTF-8; shorter than 2^31.
  void encode(std::string_view word, MergeScratch& scratch, std::vector<TokenId>& out) const;
  // No encoding of a word of so many bytes has fewer tokens; at no cost.
  std::size_t fewest_tokens(std::size_t bytes) const { return bytes / longest_; }

 private:
  // (left id, right id) -> merge.
  class PairTable {
   public:
    void reserve(std::size_t count);
    void insert(TokenId left, TokenId right, Merge merge, bool replace);
    Merge find(TokenId left, TokenId right) const;

   private:
    static std::uint64_t key_of(TokenId left, TokenId right) {
      return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
             static_cast<std::uint32_t>(right);
    }
    std::size_t start_of(std::uint64_t key) const {
      return (key * 0x9E3779B97F4A7C15ULL) >> shift_;
    }
    struct Slot {
      std::uint64_t key = ~std::uint64_t{0};  // no token has a negative id
      Merge merge;
    };
    std::vector<Slot> slots_;
    int shift_ = 64;
  };
  // What encoding the text of a token gives; learned once, the same whoever learns it first.
  enum Whole : std::uint8_t { kUnknown, kItself, kSeveral };

  BpeModel(const Vocabulary& vocabulary, BpeRules rules, const std::vector<bool>* in_text);
  void find_word_starts(bool none_inside);
  void encode_part(std::string_view part, MergeScratch& scratch, std::vector<TokenId>& out) const;
  void merge_part(std::string_view part, MergeScratch& scratch, std::vector<TokenId>& out) const;
  void add_symbols(std::string_view part, std::vector<Symbol>& symbols) const;
  std::optional<TokenId> unit_id(std::string_view text, std::size_t at, std::size_t length) const;
  void append_unknown(std::string_view unit, std::vector<TokenId>& out) const;
  bool add_fallback(std::string_view unit, std::uint32_t begin, std::vector<Symbol>& symbols) const;

  BpeRules rules_;
  TextTable words_;
  std::vector<TokenId> single_;  // by byte, or by code point below 2^16; -1 = none
  std::array<TokenId, 256> fallback_;
  PairTable pairs_;
  std::vector<std::uint32_t> score_rank_;  // by id; empty: pairs_ ranks
  // Bytes of the longest token; larger than any word where characters may be left out or fused.
  std::size_t longest_ = SIZE_MAX;
  bool words_start_at_mark_ = false;                    // no merge crosses into a following U+2581
  std::unique_ptr<std::atomic<std::uint8_t>[]> whole_;  // by id, Whole
  std::unique_ptr<WordMemory> memory_ = std::make_unique<WordMemory>();
};

}  // namespace pd::model::tokenizing
