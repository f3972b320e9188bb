// `pdserve tokenize`: JSON lines in, JSON lines out, one for one (blank lines are passed over).
//   {"text": "Hi", "add_special_tokens": false}  ->  {"ids": [9707]}
//   {"ids": [9707], "skip_special_tokens": true} ->  {"text": "Hi"}
//   anything else                                ->  {"error": "...", "line": 3}
// add_special_tokens and parse_special (special tokens written in the text become their ids)
// default to true, skip_special_tokens to false.
#pragma once

#include <iosfwd>

#include "model/tokenizer/tokenizer.h"

namespace pd::cli {

// Runs until the input ends. Returns the exit status: 0, or 1 if a line failed or the output broke.
// A bad line does not end the run. Output is flushed after each line, so a program can converse.
int run_tokenize(std::istream& in, std::ostream& out, const model::Tokenizer& tokenizer);

}  // namespace pd::cli
