#include "model/tokenizer/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/json_text.h"

namespace pd::model::tokenizing {

Result<Vocabulary> Vocabulary::create(const std::vector<Token>& tokens, std::string_view where) {
  if (tokens.size() > kTokensMax) {
    return error(ErrorCode::kTooLarge, fmt::format("{}: {} tokens, more than the limit of {}",
                                                   where, tokens.size(), kTokensMax));
  }
  const auto id_limit = static_cast<std::int64_t>(2 * tokens.size() + 1024);
  std::int64_t largest = -1;
  for (const Token& token : tokens) {
    if (token.id < 0 || token.id >= id_limit) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("{}: the token {} has the id {}; {} tokens need ids below {}", where,
                               quote(token.text), token.id, tokens.size(), id_limit));
    }
    if (token.text.size() > kTokenBytesMax) {
      return error(ErrorCode::kTooLarge,
                   fmt::format("{}: token {} has {} bytes, more than the limit of {}", where,
                               token.id, token.text.size(), kTokenBytesMax));
    }
    largest = std::max(largest, token.id);
  }
  Vocabulary out;
  out.spans_.resize(static_cast<std::size_t>(largest + 1));
  for (const Token& token : tokens) {
    const auto id = static_cast<TokenId>(token.id);
    if (out.spans_[static_cast<std::size_t>(id)].present) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("{}: the tokens {} and {} share the id {}", where,
                               quote(*out.text(id)), quote(token.text), id));
    }
    if (const auto other = out.find(token.text)) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("{}: the token {} has two ids, {} and {}", where, quote(token.text),
                               *other, id));
    }
    out.place(token.text, id);
  }
  return out;
}

Status Vocabulary::add(std::string_view text, TokenId id) {
  if (count_ >= kTokensMax || text.size() > kTokenBytesMax) {
    return error(ErrorCode::kTooLarge,
                 fmt::format("added token {}: more than {} tokens, or longer than {} bytes",
                             quote(text), kTokensMax, kTokenBytesMax));
  }
  if (id >= size()) spans_.resize(static_cast<std::size_t>(id) + 1);
  place(text, id);
  return {};
}

void Vocabulary::mark_special(TokenId id) { spans_[static_cast<std::size_t>(id)].special = true; }

std::optional<std::string_view> Vocabulary::text(TokenId id) const {
  if (!contains(id)) return std::nullopt;
  const Span& span = spans_[static_cast<std::size_t>(id)];
  if (!span.present) return std::nullopt;
  return std::string_view(arena_).substr(span.offset, span.length);
}

bool Vocabulary::is_special(TokenId id) const {
  return contains(id) && spans_[static_cast<std::size_t>(id)].special;
}

void Vocabulary::place(std::string_view text, TokenId id) {
  Span& span = spans_[static_cast<std::size_t>(id)];
  span.offset = arena_.size();
  span.length = static_cast<std::uint32_t>(text.size());
  span.present = true;
  arena_.append(text);
  ids_.insert(text, id);
  ++count_;
}

}  // namespace pd::model::tokenizing
