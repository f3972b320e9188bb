// Small text helpers that every layer needs: hexadecimal, UTF-8 checks, JSON string escaping.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/units.h"

namespace pd {

std::string to_hex(std::uint64_t value);                       // 16 lower-case digits
std::optional<std::uint64_t> from_hex(std::string_view text);  // 1 to 16 digits, nothing else
std::string to_string(const RequestId& id);                    // 32 lower-case digits
std::optional<RequestId> request_id_from(std::string_view text);

// Length of the longest prefix of `text` that is valid UTF-8 (RFC 3629: no surrogates, no overlong
// forms).
std::size_t valid_utf8_prefix(std::string_view text);
inline bool is_valid_utf8(std::string_view text) { return valid_utf8_prefix(text) == text.size(); }

// Appends `text` as the inside of a JSON string (no quotes). Invalid UTF-8 becomes U+FFFD.
void append_json_escaped(std::string& out, std::string_view text);

// Appends decimal digits; for texts that are made for every request or token, where a format
// string's parsing shows.
template <std::integral T>
void append_number(std::string& out, T value) {
  char digits[24];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

// Appends a code point as UTF-8; surrogates and values over U+10FFFF become U+FFFD.
void append_utf8(std::string& out, char32_t code_point);

}  // namespace pd
