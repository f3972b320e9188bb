// Template source to tokens, white space control already applied (trim_blocks, lstrip_blocks, "-"
// and "+").
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pd::model::jinja {

struct Token {
  enum class Kind : std::uint8_t {
    kText,
    kOpenOutput,
    kCloseOutput,
    kOpenBlock,
    kCloseBlock,
    kName,
    kString,
    kInteger,
    kFloat,
    kOperator,
    kEnd
  };
  Kind kind = Kind::kEnd;
  std::string text;  // of strings: the value
  int line = 1;
};

// Fails with the line for what is not a template.
std::vector<Token> tokenize(std::string_view source);

}  // namespace pd::model::jinja
