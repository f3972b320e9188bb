#include "model/tokenizer/added_tokens.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/tokenizer/unicode.h"

namespace pd::model::tokenizing {

std::array<std::uint32_t, 256> TextMatcher::filled_root() {
  std::array<std::uint32_t, 256> out;
  out.fill(kNone);
  return out;
}

std::uint32_t TextMatcher::child(std::uint32_t node, char byte) const {
  if (node == 0) return root_[static_cast<unsigned char>(byte)];
  std::uint32_t at = nodes_[node].first_child;
  while (at != kNone && nodes_[at].byte != byte) at = nodes_[at].next_sibling;
  return at;
}

void TextMatcher::insert(std::string_view pattern, std::uint32_t value) {
  if (pattern.empty()) return;
  std::uint32_t node = 0;
  for (const char byte : pattern) {
    std::uint32_t next = child(node, byte);
    if (next == kNone) {
      next = static_cast<std::uint32_t>(nodes_.size());
      Node fresh;
      fresh.byte = byte;
      if (node == 0) {
        root_[static_cast<unsigned char>(byte)] = next;
        first_bytes_ += byte;
      } else {
        fresh.next_sibling = nodes_[node].first_child;
        nodes_[node].first_child = next;
      }
      nodes_.push_back(fresh);
    }
    node = next;
  }
  if (nodes_[node].value == kNone) nodes_[node].value = value;
}

// Most vocabularies' special tokens all begin with '<', which the library finds many bytes at once.
std::size_t TextMatcher::next_begin(std::string_view text, std::size_t from) const {
  if (first_bytes_.size() == 1) return std::min(text.find(first_bytes_[0], from), text.size());
  std::size_t at = from;
  while (at < text.size() && root_[static_cast<unsigned char>(text[at])] == kNone) ++at;
  return at;
}

std::optional<TextMatcher::Match> TextMatcher::find(std::string_view text, std::size_t from) const {
  for (std::size_t begin = next_begin(text, from); begin < text.size();
       begin = next_begin(text, begin + 1)) {
    std::uint32_t node = root_[static_cast<unsigned char>(text[begin])];
    std::optional<Match> longest;
    for (std::size_t at = begin + 1; node != kNone; ++at) {
      if (nodes_[node].value != kNone) longest = Match{begin, at, nodes_[node].value};
      if (at == text.size()) break;
      node = child(node, text[at]);
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

Status AddedTokens::add(AddedToken token, std::string_view normal) {
  const std::string_view pattern = token.normalized ? normal : std::string_view(token.content);
  if (token.content.size() > kAddedTokenBytesMax || pattern.size() > kAddedTokenBytesMax) {
    return error(ErrorCode::kTooLarge, fmt::format("the added token {} is longer than {} bytes",
                                                   token.id, kAddedTokenBytesMax));
  }
  (token.normalized ? normalized_ : plain_).insert(pattern, static_cast<std::uint32_t>(token.id));
  by_id_[token.id] = std::move(token);
  return {};
}

Status AddedTokens::split(std::string_view text, bool in_normalized, bool special,
                          const Sink& sink) const {
  const TextMatcher& matcher = in_normalized ? normalized_ : plain_;
  std::size_t start = 0;  // text before this has been handed out
  std::size_t from = 0;
  while (!matcher.empty()) {
    const auto match = matcher.find(text, from);
    if (!match) break;
    from = match->end;
    const AddedToken& token = by_id_.at(static_cast<TokenId>(match->value));
    if (token.special && !special) continue;
    std::size_t begin = match->begin;
    std::size_t end = match->end;
    if (token.single_word) {
      std::size_t before = begin;
      std::size_t behind = end;
      if (before > 0 && is_word(previous_code_point(text, before))) continue;
      if (behind < text.size() && is_word(next_code_point(text, behind))) continue;
    }
    while (token.lstrip && begin > start) {
      std::size_t before = begin;
      if (!is_white_space(previous_code_point(text, before))) break;
      begin = before;
    }
    while (token.rstrip && end < text.size()) {
      std::size_t behind = end;
      if (!is_white_space(next_code_point(text, behind))) break;
      end = behind;
    }
    if (begin > start) {
      if (auto sent = sink({text.substr(start, begin - start), std::nullopt}); !sent) return sent;
    }
    if (auto sent = sink({text.substr(begin, end - begin), token.id}); !sent) return sent;
    start = end;
  }
  if (start < text.size()) return sink({text.substr(start), std::nullopt});
  return {};
}

}  // namespace pd::model::tokenizing
