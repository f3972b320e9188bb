#include "model/tokenizer/bpe_model.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "base/text.h"
#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/unicode.h"

namespace pd::model::tokenizing {
namespace {

constexpr std::string_view kMark = "\xE2\x96\x81";  // U+2581, SentencePiece's space
constexpr char32_t kSinglesMax = 0x10000;

// A U+2581 behind another character.
bool has_inner_mark(std::string_view text) {
  for (std::size_t at = text.find(kMark); at != std::string_view::npos;
       at = text.find(kMark, at + kMark.size())) {
    if (at > 0 && !text.substr(0, at).ends_with(kMark)) return true;
  }
  return false;
}

// Where the word that starts at `begin` ends: before the next mark that follows something else.
std::size_t word_end(std::string_view text, std::size_t begin) {
  const auto mark_at = [&](std::size_t at) {
    return text[at] == kMark[0] && text.substr(at, kMark.size()) == kMark;
  };
  std::size_t at = begin;
  while (at < text.size() && mark_at(at)) at += kMark.size();
  while (true) {
    at = text.find(kMark[0], at);
    if (at == std::string_view::npos) return text.size();
    if (mark_at(at)) return at;
    ++at;
  }
}

}  // namespace

void BpeModel::PairTable::reserve(std::size_t count) {
  const std::size_t size = std::bit_ceil(std::max<std::size_t>(count * 2, 16));
  slots_.assign(size, Slot{});
  shift_ = 64 - std::countr_zero(size);
}

void BpeModel::PairTable::insert(TokenId left, TokenId right, Merge merge, bool replace) {
  const std::uint64_t key = key_of(left, right);
  std::size_t at = start_of(key);
  while (slots_[at].key != ~std::uint64_t{0} && slots_[at].key != key) {
    at = (at + 1) & (slots_.size() - 1);
  }
  if (slots_[at].key == key && !replace) return;
  slots_[at] = {key, merge};
}

Merge BpeModel::PairTable::find(TokenId left, TokenId right) const {
  const std::uint64_t key = key_of(left, right);
  for (std::size_t at = start_of(key); slots_[at].key != ~std::uint64_t{0};
       at = (at + 1) & (slots_.size() - 1)) {
    if (slots_[at].key == key) return slots_[at].merge;
  }
  return {};
}

BpeModel::BpeModel(const Vocabulary& vocabulary, BpeRules rules, const std::vector<bool>* in_text)
    : rules_(rules),
      whole_(std::make_unique<std::atomic<std::uint8_t>[]>(
          static_cast<std::size_t>(vocabulary.size()))) {
  fallback_.fill(-1);
  if (rules_.byte_level) single_.assign(256, -1);
  std::size_t longest = 1;
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    const auto text = vocabulary.text(id);
    if (!text || text->empty()) continue;
    if (const auto byte = fallback_byte(*text); byte && *text == fallback_token(*byte)) {
      fallback_[*byte] = id;
    }
    if (in_text != nullptr && !(*in_text)[static_cast<std::size_t>(id)]) continue;
    if (rules_.byte_level) {
      const auto bytes = alphabet_bytes(*text);
      if (!bytes) continue;  // no text can produce it
      words_.insert(*bytes, id);
      longest = std::max(longest, bytes->size());
      if (bytes->size() == 1) single_[static_cast<unsigned char>(bytes->front())] = id;
      continue;
    }
    words_.insert(*text, id);
    longest = std::max(longest, text->size());
    std::size_t at = 0;
    const char32_t code = next_code_point(*text, at);
    if (at != text->size() || code >= kSinglesMax) continue;
    if (code >= single_.size()) single_.resize(code + 1, -1);
    single_[code] = id;
  }
  const auto every_byte = [](const auto& ids) {
    return std::ranges::none_of(ids, [](TokenId id) { return id < 0; });
  };
  if (rules_.byte_level ? every_byte(single_) : rules_.byte_fallback && every_byte(fallback_))
    longest_ = longest;
}

BpeModel BpeModel::from_merges(const Vocabulary& vocabulary, std::span<const RankedMerge> merges,
                               DuplicateMerge duplicates, BpeRules rules) {
  BpeModel out(vocabulary, rules, nullptr);
  out.pairs_.reserve(merges.size());
  bool inner_mark = false;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const RankedMerge& merge = merges[rank];
    out.pairs_.insert(merge.left, merge.right, {static_cast<std::uint32_t>(rank), merge.merged},
                      duplicates == DuplicateMerge::kLastCounts);
    inner_mark = inner_mark || has_inner_mark(*vocabulary.text(merge.merged));
  }
  out.find_word_starts(!inner_mark);
  return out;
}

BpeModel BpeModel::from_scores(const Vocabulary& vocabulary, std::span<const double> scores,
                               const std::vector<bool>& in_text, BpeRules rules) {
  BpeModel out(vocabulary, rules, &in_text);
  std::vector<double> distinct(scores.begin(), scores.end());
  std::ranges::sort(distinct, std::greater<>());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  bool inner_mark = false;
  out.score_rank_.reserve(scores.size());
  for (std::size_t id = 0; id < scores.size(); ++id) {
    const auto place = std::ranges::lower_bound(distinct, scores[id], std::greater<>());
    out.score_rank_.push_back(static_cast<std::uint32_t>(place - distinct.begin()));
    const auto text = vocabulary.text(static_cast<TokenId>(id));
    inner_mark = inner_mark || (in_text[id] && text && has_inner_mark(*text));
  }
  out.find_word_starts(!inner_mark);
  return out;
}

// If the mark is a token and stands only at the beginning of tokens, nothing ever joins across the
// place before a mark: the words between can be encoded one by one. Llama 2 has no pre-tokenizer,
// and this keeps its words short.
void BpeModel::find_word_starts(bool none_inside) {
  words_start_at_mark_ = none_inside && !rules_.byte_level && words_.find(kMark).has_value();
}

void BpeModel::encode(std::string_view word, MergeScratch& scratch,
                      std::vector<TokenId>& out) const {
  if (!words_start_at_mark_) return encode_part(word, scratch, out);
  if (rules_.ignore_merges) {
    if (const auto id = words_.find(word)) {
      out.push_back(*id);
      return;
    }
  }
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t end = word_end(word, at);
    encode_part(word.substr(at, end - at), scratch, out);
    at = end;
  }
}

void BpeModel::encode_part(std::string_view part, MergeScratch& scratch,
                           std::vector<TokenId>& out) const {
  if (memory_->append(part, out)) return;
  const std::size_t before = out.size();
  merge_part(part, scratch, out);
  memory_->remember(part, std::span(out).subspan(before));
}

void BpeModel::merge_part(std::string_view part, MergeScratch& scratch,
                          std::vector<TokenId>& out) const {
  const auto id = words_.find(part);
  if (id && rules_.ignore_merges && !words_start_at_mark_) {
    out.push_back(*id);
    return;
  }
  std::atomic<std::uint8_t>* known = id ? &whole_[static_cast<std::size_t>(*id)] : nullptr;
  if (known != nullptr && known->load(std::memory_order_relaxed) == kItself) {
    out.push_back(*id);
    return;
  }
  scratch.symbols.clear();
  add_symbols(part, scratch.symbols);
  if (score_rank_.empty()) {
    merge_symbols(scratch, [&](const Symbol& left, const Symbol& right) {
      return pairs_.find(left.id, right.id);
    });
  } else {
    merge_symbols(scratch, [&](const Symbol& left, const Symbol& right) -> Merge {
      const auto merged = words_.find(part.substr(left.begin, left.length + right.length));
      if (!merged) return {};
      return {score_rank_[static_cast<std::size_t>(*merged)], *merged};
    });
  }
  for (const Symbol& symbol : scratch.symbols) {
    if (symbol.id >= 0) {
      out.push_back(symbol.id);
    } else {
      append_unknown(part.substr(symbol.begin, symbol.length), out);
    }
  }
  if (known != nullptr) {
    const bool itself = scratch.symbols.size() == 1 && scratch.symbols[0].id == *id;
    known->store(itself ? kItself : kSeveral, std::memory_order_relaxed);
  }
}

std::optional<TokenId> BpeModel::unit_id(std::string_view text, std::size_t at,
                                         std::size_t length) const {
  char32_t code = static_cast<unsigned char>(text[at]);
  if (!rules_.byte_level) code = next_code_point(text, at);
  if (code < single_.size()) {
    if (single_[code] < 0) return std::nullopt;
    return single_[code];
  }
  if (code < kSinglesMax) return std::nullopt;
  return words_.find(text.substr(at - length, length));
}

// A character that had to stay a symbol because a merge by text could still have taken it up.
void BpeModel::append_unknown(std::string_view unit, std::vector<TokenId>& out) const {
  std::vector<Symbol> bytes;
  if (rules_.byte_fallback && add_fallback(unit, 0, bytes)) {
    for (const Symbol& byte : bytes) out.push_back(byte.id);
  } else if (rules_.unk) {
    out.push_back(*rules_.unk);
  }
}

bool BpeModel::add_fallback(std::string_view unit, std::uint32_t begin,
                            std::vector<Symbol>& symbols) const {
  const std::string text =
      rules_.byte_level ? byte_character(static_cast<unsigned char>(unit[0])) : std::string(unit);
  for (const char byte : text) {
    if (fallback_[static_cast<unsigned char>(byte)] < 0) return false;
  }
  for (const char byte : text) {
    symbols.push_back({fallback_[static_cast<unsigned char>(byte)], begin++, 1});
  }
  return true;
}

void BpeModel::add_symbols(std::string_view part, std::vector<Symbol>& symbols) const {
  bool unk_open = false;  // the last unknown character waits for one to fuse with
  std::size_t at = 0;
  while (at < part.size()) {
    const std::size_t length = rules_.byte_level ? 1 : character_length(part[at]);
    const auto begin = static_cast<std::uint32_t>(at);
    const auto id = unit_id(part, at, length);
    at += length;
    if (id) {
      symbols.push_back({*id, begin, static_cast<std::uint32_t>(length)});
      unk_open = false;
      continue;
    }
    if (!score_rank_.empty()) {
      symbols.push_back({-1, begin, static_cast<std::uint32_t>(length)});
      continue;
    }
    if (rules_.byte_fallback && add_fallback(part.substr(begin, length), begin, symbols)) {
      unk_open = false;
      continue;
    }
    if (!rules_.unk) continue;
    if (unk_open && rules_.fuse_unk) {
      symbols.back().length += static_cast<std::uint32_t>(length);
    } else {
      symbols.push_back({*rules_.unk, begin, static_cast<std::uint32_t>(length)});
      unk_open = true;
    }
  }
}

}  // namespace pd::model::tokenizing
