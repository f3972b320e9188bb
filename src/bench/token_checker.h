// Reads an answer of the OpenAI API whose text is numbered tokens (numbered_tokens.h), in any cut,
// and says whether each number came once and in order. Pure. Works on what any server makes of
// them: several tokens in one event, one token over several. Of an answer in a model's own words it
// only says whether there is text, and whether it came to its end.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pd::bench {

class TokenChecker {
 public:
  // `streamed`: server-sent events; otherwise one JSON object. `numbered`: false for a model's own
  // words.
  explicit TokenChecker(bool streamed, bool numbered = true)
      : streamed_(streamed), numbered_(numbered) {}

  void feed(std::string_view bytes);
  // Empty: exactly `tokens` numbers came (or some words), and a stream said [DONE]. Call once,
  // after the last byte.
  std::string verdict(std::uint32_t tokens);

  // Numbers whose first digit has come; words: pieces of text.
  std::uint32_t tokens() const { return begun_; }

 private:
  void take_line(std::string_view line);
  void take_text(std::string_view text);
  void finish_number();

  bool streamed_;
  bool numbered_;
  bool done_ = false;
  std::string partial_;  // of a line
  std::string fault_;    // the first
  std::uint32_t begun_ = 0;
  std::uint32_t finished_ = 0;
  std::uint64_t number_ = 0;
  bool in_number_ = false;
};

}  // namespace pd::bench
