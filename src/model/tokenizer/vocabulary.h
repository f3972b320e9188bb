// The token texts of a model by id, with the tokens added on top of the model's own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "model/tokenizer/text_table.h"

namespace pd::model::tokenizing {

inline constexpr std::size_t kTokensMax = std::size_t{1} << 22;  // 16 times today's largest
inline constexpr std::size_t kTokenBytesMax = 1 << 16;

class Vocabulary {
 public:
  // Ids may have gaps, but the largest must stay below twice the number of tokens plus 1,024: a
  // forged id must not make a table of gigabytes. Errors name `where`.
  struct Token {
    std::string_view text;
    std::int64_t id = 0;
  };
  static Result<Vocabulary> create(const std::vector<Token>& tokens, std::string_view where);

  // A token added behind the model's; its text and id are new. kTooLarge over the limits.
  Status add(std::string_view text, TokenId id);
  void mark_special(TokenId id);

  std::optional<TokenId> find(std::string_view text) const { return ids_.find(text); }
  // nullopt: the id is in a gap or outside.
  std::optional<std::string_view> text(TokenId id) const;
  bool is_special(TokenId id) const;
  bool contains(TokenId id) const { return id >= 0 && id < size(); }
  TokenId size() const { return static_cast<TokenId>(spans_.size()); }  // largest id + 1
  std::size_t count() const { return count_; }

 private:
  struct Span {
    std::uint64_t offset = 0;
    std::uint32_t length = 0;
    bool present = false;
    bool special = false;
  };
  void place(std::string_view text, TokenId id);

  std::string arena_;
  std::vector<Span> spans_;  // by id
  TextTable ids_;
  std::size_t count_ = 0;
};

}  // namespace pd::model::tokenizing
