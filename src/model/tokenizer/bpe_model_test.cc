#include "model/tokenizer/bpe_model.h"

#include <gtest/gtest.h>

#include <map>

#include "base/rng.h"
#include "model/tokenizer/merge.h"

namespace pd::model::tokenizing {
namespace {

// The definition, quadratic: join the leftmost pair of the best rank until there is none.
std::vector<std::string> merged_slowly(std::vector<std::string> parts,
                                       const std::map<std::string, std::uint32_t>& rank_of) {
  while (true) {
    std::size_t best = parts.size();
    std::uint32_t best_rank = Merge::kNever;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto rank = rank_of.find(parts[i] + parts[i + 1]);
      if (rank != rank_of.end() && rank->second < best_rank) {
        best = i;
        best_rank = rank->second;
      }
    }
    if (best == parts.size()) return parts;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(Merge, ScanAndHeapFollowTheDefinition) {
  Rng rng(3);
  for (int round = 0; round < 300; ++round) {
    std::map<std::string, std::uint32_t> rank_of;
    for (int i = 0; i < 40; ++i) {
      std::string text;
      for (std::uint64_t n = 2 + rng.below(4); n > 0; --n) text += "abc"[rng.below(3)];
      rank_of.emplace(text, static_cast<std::uint32_t>(rng.below(30)));  // with equal ranks
    }
    std::string word;
    for (std::uint64_t n = 1 + rng.below(100); n > 0; --n) word += "abc"[rng.below(3)];
    MergeScratch scratch;
    std::vector<std::string> parts;
    for (std::size_t i = 0; i < word.size(); ++i) {
      scratch.symbols.push_back({0, static_cast<std::uint32_t>(i), 1});
      parts.push_back(word.substr(i, 1));
    }
    const auto expected = merged_slowly(parts, rank_of);
    const auto rule = [&](const Symbol& left, const Symbol& right) -> Merge {
      const auto rank = rank_of.find(word.substr(left.begin, left.length + right.length));
      if (rank == rank_of.end()) return {};
      return {rank->second, 0};
    };
    auto heaped = scratch;
    merge_symbols(scratch, rule);
    internal::merge_by_heap(heaped, rule);
    for (const MergeScratch* result : {&scratch, &heaped}) {
      std::vector<std::string> got;
      for (const Symbol& s : result->symbols) got.push_back(word.substr(s.begin, s.length));
      EXPECT_EQ(got, expected) << word;
    }
  }
}

Vocabulary vocabulary_of(const std::vector<std::string>& texts) {
  std::vector<Vocabulary::Token> tokens;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    tokens.push_back({texts[i], static_cast<std::int64_t>(i)});
  }
  auto made = Vocabulary::create(tokens, "test");
  EXPECT_TRUE(made);
  return std::move(*made);
}

std::vector<TokenId> encode(const BpeModel& model, std::string_view word) {
  MergeScratch scratch;
  std::vector<TokenId> out;
  model.encode(word, scratch, out);
  return out;
}

TEST(BpeModel, ATokenThatMergesDoNotReachNeedsIgnoreMerges) {
  const auto vocabulary = vocabulary_of({"a", "b", "ab", "aba"});
  const std::vector<RankedMerge> merges = {{0, 1, 2}};
  BpeRules rules;
  const auto strict = BpeModel::from_merges(vocabulary, merges, DuplicateMerge::kLastCounts, rules);
  for (int i = 0; i < 2; ++i) {  // the second time from what the first has learned
    EXPECT_EQ(encode(strict, "aba"), (std::vector<TokenId>{2, 0}));
    EXPECT_EQ(encode(strict, "ab"), (std::vector<TokenId>{2}));
  }
  rules.ignore_merges = true;
  const auto loose = BpeModel::from_merges(vocabulary, merges, DuplicateMerge::kLastCounts, rules);
  EXPECT_EQ(encode(loose, "aba"), (std::vector<TokenId>{3}));
}

TEST(BpeModel, OfEqualMergesTheFileKindSaysWhichCounts) {
  const auto vocabulary = vocabulary_of({"a", "b", "c", "ab", "bc"});
  const std::vector<RankedMerge> merges = {{0, 1, 3}, {1, 2, 4}, {0, 1, 3}};
  const auto last = BpeModel::from_merges(vocabulary, merges, DuplicateMerge::kLastCounts, {});
  const auto first = BpeModel::from_merges(vocabulary, merges, DuplicateMerge::kFirstCounts, {});
  EXPECT_EQ(encode(last, "abc"), (std::vector<TokenId>{0, 4}));
  EXPECT_EQ(encode(first, "abc"), (std::vector<TokenId>{3, 2}));
}

TEST(BpeModel, UnknownCharactersWithoutAnyFallbackAreLeftOut) {
  const auto vocabulary = vocabulary_of({"a", "?"});
  BpeRules rules;
  const auto silent = BpeModel::from_merges(vocabulary, {}, DuplicateMerge::kLastCounts, rules);
  EXPECT_EQ(encode(silent, "xax"), (std::vector<TokenId>{0}));
  rules.unk = 1;
  const auto apart = BpeModel::from_merges(vocabulary, {}, DuplicateMerge::kLastCounts, rules);
  EXPECT_EQ(encode(apart, "xxa"), (std::vector<TokenId>{1, 1, 0}));
  rules.fuse_unk = true;
  const auto fused = BpeModel::from_merges(vocabulary, {}, DuplicateMerge::kLastCounts, rules);
  EXPECT_EQ(encode(fused, "xxaxx"), (std::vector<TokenId>{1, 0, 1}));
}

TEST(BpeModel, ControlTokensDoNotComeOutOfText) {
  const auto vocabulary = vocabulary_of({"<", "s", ">", "<s", "<s>"});
  const std::vector<double> scores = {0, 0, 0, -1, 0};
  const auto model = BpeModel::from_scores(vocabulary, scores, {true, true, true, true, false}, {});
  EXPECT_EQ(encode(model, "<s>"), (std::vector<TokenId>{3, 2}));
}

TEST(BpeModel, WordsThatStartAtAMarkAreIndependentOnlyIfNoTokenCrosses) {
  const std::string m = "\u2581";
  const std::vector<std::string> base = {"a", m, m + "a", m + m};
  const std::vector<RankedMerge> merges = {{1, 0, 2}, {1, 1, 3}};
  const auto apart =
      BpeModel::from_merges(vocabulary_of(base), merges, DuplicateMerge::kLastCounts, {});
  EXPECT_EQ(encode(apart, m + "a" + m + m + "a"), (std::vector<TokenId>{2, 1, 2}));
  auto more = base;
  more.push_back("a" + m);
  const std::vector<RankedMerge> crossing = {{0, 1, 4}, {1, 0, 2}, {1, 1, 3}};
  const auto joined =
      BpeModel::from_merges(vocabulary_of(more), crossing, DuplicateMerge::kLastCounts, {});
  EXPECT_EQ(encode(joined, m + "a" + m + m + "a"), (std::vector<TokenId>{1, 4, 2}));
}

TEST(Vocabulary, ForgedIdsAreRefused) {
  const std::vector<std::vector<Vocabulary::Token>> wrong = {{{"a", -1}},
                                                             {{"a", 1'000'000'000'000}},
                                                             {{"a", 1026}},
                                                             {{"a", 0}, {"b", 0}},
                                                             {{"a", 0}, {"a", 1}}};
  for (const auto& tokens : wrong) {
    const auto made = Vocabulary::create(tokens, "file: vocab");
    ASSERT_FALSE(made);
    EXPECT_TRUE(made.error().message.starts_with("file: vocab: ")) << made.error().message;
  }
  const auto gap = Vocabulary::create({{"a", 7}}, "file");
  ASSERT_TRUE(gap);
  EXPECT_EQ(gap->size(), 8);
  EXPECT_FALSE(gap->text(3));
  EXPECT_TRUE(gap->contains(3));
}

}  // namespace
}  // namespace pd::model::tokenizing
