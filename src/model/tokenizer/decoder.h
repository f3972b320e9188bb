// Token texts back to the text they came from: a chain of steps, each fed token by token. The same
// chain serves whole sequences and streams, so the two cannot differ.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace pd::model::tokenizing {

namespace decode {
struct ByteLevel {};     // alphabet characters to bytes, all tokens as one
struct ByteFallback {};  // runs of <0xHH> tokens to characters; an invalid run: U+FFFD per byte
struct Fuse {};          // all tokens as one
struct Replace {
  std::string what;  // not empty
  std::string with;
};
struct Strip {  // up to so many of this character at each token's ends
  std::string character;
  std::uint32_t start = 0;
  std::uint32_t stop = 0;
};
struct Metaspace {
  std::string replacement;  // one character: a space, or nothing in the first token
  bool drop_in_first = true;
};
struct JoinWithSpaces {};  // what the reference does without a decoder
using Step = std::variant<ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, JoinWithSpaces>;
}  // namespace decode

class Decoder {
 public:
  // What the steps hold back between tokens. Belongs to one Decoder.
  struct StepState {
    std::string held;          // text that later text of the same token may change
    std::string run;           // bytes waiting for the rest of their character or run
    std::uint64_t tokens = 0;  // tokens begun
    std::uint32_t stripped = 0;
    bool open = false;  // a token has begun and not ended
  };
  using State = std::vector<StepState>;

  Decoder();  // no step yet: JoinWithSpaces
  // kUnsupported: ByteLevel and ByteFallback look at whole tokens and cannot stand behind a step
  // that joins them; replacements may not grow the text more than 64-fold.
  Status add(decode::Step step);

  State start() const { return State(steps_.size()); }
  // Appends to `out` the text that is final after this token, and at finish() the rest.
  void token(State& state, std::string_view text, std::string& out) const;
  void finish(State& state, std::string& out) const;

  // What one token contributes inside a text: bytes, not necessarily a whole character.
  std::string token_bytes(std::string_view text) const;

 private:
  struct Flow;  // decoder.cc: passes text through the steps
  std::vector<decode::Step> steps_;
  bool implicit_ = true;
  std::uint64_t growth_ = 1;  // how many bytes one byte may become, over all steps
};

}  // namespace pd::model::tokenizing
