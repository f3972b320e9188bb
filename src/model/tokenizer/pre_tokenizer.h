// Cuts normalized text into the words that the model looks at one by one.
#pragma once

#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "model/tokenizer/normalizer.h"

namespace pd::model::tokenizing {

struct Piece {
  std::string_view text;
  bool first = false;  // begins where the whole input begins
};

// What happens to a delimiter that was found (the names are the file format's).
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

namespace cut {
struct Split {
  Pattern pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // the pattern describes the words, not the delimiters
};
struct Digits {
  bool individual = false;
};
struct Punctuation {
  SplitBehavior behavior = SplitBehavior::kIsolated;
};
// Without its alphabet: the model works on bytes then (BpeModel). Must be the last step.
struct ByteLevel {
  bool add_prefix_space = false;
  std::optional<Regex> regex;
};
enum class Prepend { kAlways, kFirst, kNever };
struct Metaspace {
  std::string replacement;  // one character
  Prepend prepend = Prepend::kAlways;
  bool split = true;
};
using Step = std::variant<Split, Digits, Punctuation, ByteLevel, Metaspace>;
}  // namespace cut

class PreTokenizer {
 public:
  // Working memory of one call chain; the pieces of run() live in it until the next run().
  struct Scratch {
    RegexScratch regex;
    std::vector<Piece> pieces;
    std::vector<Piece> next;
    std::list<std::string> changed;  // texts that a step altered; pieces look into them
  };

  void add(cut::Step step) { steps_.push_back(std::move(step)); }
  bool byte_level() const;  // the last step is ByteLevel

  // Fills scratch.pieces; none of them is empty.
  Status run(Piece text, Scratch& scratch) const;

 private:
  std::vector<cut::Step> steps_;
};

}  // namespace pd::model::tokenizing
