// Regular expressions of tokenizer files on PCRE2 with JIT.
// The files are written for Oniguruma (Ruby syntax), which the reference implementation uses;
// regex_syntax.cc translates what both engines spell differently and refuses what it does not know,
// so that a pattern never silently means something else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pd::model::tokenizing {

// The PCRE2 spelling of an Oniguruma pattern; kUnsupported names the construct.
Result<std::string> pcre2_pattern(std::string_view oniguruma);

// Buffers of a running match; one per thread, for any number of expressions. Costs nothing until
// one runs.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;

 private:
  friend class Regex;
  struct State;
  std::unique_ptr<State> state_;
};

// Immutable after creation; find_all may run in several threads, each with its own scratch.
class Regex {
 public:
  // Errors: kUnsupported (a construct outside the translation), kInvalidArgument (not an
  // expression).
  static Result<Regex> create(std::string_view oniguruma);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  // Calls `found(begin, end)` for every match from left to right; an empty match directly behind
  // the previous one is left out. `text` is valid UTF-8. kInvalidArgument: the expression
  // backtracks too much on this text.
  using Found = std::function<void(std::size_t, std::size_t)>;
  Status find_all(std::string_view text, RegexScratch& scratch, const Found& found) const;

 private:
  struct Code;
  explicit Regex(std::unique_ptr<const Code> code);
  int match_at(std::string_view text, std::size_t at, RegexScratch& scratch) const;
  std::unique_ptr<const Code> code_;
};

}  // namespace pd::model::tokenizing
