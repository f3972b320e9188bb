// Classes of characters as Python's str has them: templates were written against those.
#pragma once

namespace pd::model::jinja {

bool is_space(char32_t c);       // str.isspace(): what strip() and split() take away
bool is_line_break(char32_t c);  // where splitlines() splits
bool is_digit(char32_t c);       // str.isdigit(): Numeric_Type Decimal or Digit
bool is_printable(char32_t c);   // str.isprintable(): repr() escapes the others

}  // namespace pd::model::jinja
