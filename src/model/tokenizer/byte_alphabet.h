// The byte-level alphabet of GPT-2: every byte has a printable character, so that a vocabulary of
// strings can hold arbitrary bytes. Source: github.com/openai/gpt-2/blob/master/src/encoder.py
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pd::model::tokenizing {

// The character that stands for `byte`.
std::string byte_character(unsigned char byte);

// The bytes that `text`, valid UTF-8, stands for; nullopt when a character is not in the alphabet.
std::optional<std::string> alphabet_bytes(std::string_view text);

// The byte of a byte-fallback token `<0xHH>`.
std::optional<unsigned char> fallback_byte(std::string_view token);
std::string fallback_token(unsigned char byte);  // with upper-case digits, as vocabularies have it

}  // namespace pd::model::tokenizing
