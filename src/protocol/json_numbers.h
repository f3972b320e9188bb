// The numbers in a JSON text that a parser made for speed is slow with or refuses. Told from text
// in strings; what is no JSON does not become so.
#pragma once

#include <string>
#include <string_view>

namespace pd::protocol {

// Whether there is a number of more than 18 significant digits, other than an integer of 64 bits.
// Up to 18 a number is read with one multiplication or two, beyond with arithmetic of many digits:
// that takes microseconds.
bool has_long_number(std::string_view text);

// The text with an exponent of 0 behind each integer of more than 64 bits, which the parser refuses
// otherwise.
std::string with_wide_integers(std::string_view text);

}  // namespace pd::protocol
