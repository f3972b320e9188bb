// Unicode as tokenizers need it: code points, the character classes their rules name, normal forms.
// Every text here is valid UTF-8 unless a function says otherwise; the facade checks it once.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace pd::model::tokenizing {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// Bytes of the character whose first byte is `lead`.
constexpr std::size_t character_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// The code point at text[at], which starts a character; moves `at` behind it.
char32_t next_code_point(std::string_view text, std::size_t& at);
// The code point that ends at text[end]; moves `end` to its start. `end` is above 0.
char32_t previous_code_point(std::string_view text, std::size_t& end);

bool is_white_space(char32_t c);  // property White_Space
bool is_numeric(char32_t c);      // categories Nd, Nl, No
bool is_punctuation(char32_t c);  // categories P*, and the ASCII symbols
bool is_mark(char32_t c);         // categories Mn, Mc, Me
bool is_word(char32_t c);         // what a regular expression's \w matches

// UAX #15. Linear in the text's length, however many marks follow one letter.
enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
std::string normalized(std::string_view text, NormalForm form);

// Character by character (no context rules such as the final sigma).
std::string lower_cased(std::string_view text);

// Moves what `bytes` (any bytes) says into `out` as UTF-8: each maximal part that starts no
// character becomes one U+FFFD (Unicode 15, section 3.9). A character still incomplete at the end
// stays in `bytes`, unless `last`. Otherwise `bytes` ends empty.
void take_utf8(std::string& bytes, bool last, std::string& out);

}  // namespace pd::model::tokenizing
