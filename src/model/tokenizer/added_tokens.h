// Tokens that are found in the text before anything else looks at it: special tokens and those
// added behind the model's vocabulary. Matching is leftmost, then longest, like the reference's.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"

namespace pd::model::tokenizing {

inline constexpr std::size_t kAddedTokenBytesMax = 1024;  // bounds the work per byte of text

struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool single_word = false;  // only where no word character stands beside it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space behind it
  bool normalized = false;   // looked for in the normalized text
  bool special = false;      // skipped on request when decoding
};

// Finds any of a set of byte strings in a text.
class TextMatcher {
 public:
  void insert(std::string_view pattern, std::uint32_t value);  // the first of two equal ones stays
  bool empty() const { return nodes_.size() == 1; }

  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::uint32_t value = 0;
  };
  std::optional<Match> find(std::string_view text, std::size_t from) const;

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  struct Node {  // a trie; children are a linked list, short but at the root
    std::uint32_t first_child = kNone;
    std::uint32_t next_sibling = kNone;
    std::uint32_t value = kNone;
    char byte = 0;
  };
  std::uint32_t child(std::uint32_t node, char byte) const;
  // The first place from `from` on where a pattern may begin; the text's end if there is none.
  std::size_t next_begin(std::string_view text, std::size_t from) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::array<std::uint32_t, 256> root_ = filled_root();
  std::string first_bytes_;  // of the patterns, each once
  static std::array<std::uint32_t, 256> filled_root();
};

class AddedTokens {
 public:
  // `normal`: the content as the tokenizer's normalizer leaves it, for tokens with `normalized`.
  // A token whose id is there already replaces it.
  Status add(AddedToken token, std::string_view normal);

  // Cuts `text` into its tokens and what lies between them, in order; empty stretches are left out.
  // `in_normalized` chooses the tokens looked for; without `special` those with that flag stay
  // text.
  struct Part {
    std::string_view text;
    std::optional<TokenId> id;
  };
  using Sink = std::function<Status(Part)>;
  Status split(std::string_view text, bool in_normalized, bool special, const Sink& sink) const;

  const std::map<TokenId, AddedToken>& by_id() const { return by_id_; }

 private:
  std::map<TokenId, AddedToken> by_id_;
  TextMatcher plain_;
  TextMatcher normalized_;
};

}  // namespace pd::model::tokenizing
