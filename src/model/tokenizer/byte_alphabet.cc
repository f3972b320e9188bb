#include "model/tokenizer/byte_alphabet.h"

#include <fmt/format.h>

#include <array>
#include <cstdint>

#include "base/text.h"
#include "model/tokenizer/unicode.h"

namespace pd::model::tokenizing {
namespace {

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char16_t, 256> character_of{};
  std::array<std::int16_t, 0x144> byte_of{};  // the other 68 bytes stand at U+0100 to U+0143
};

constexpr Alphabet make_alphabet() {
  Alphabet out;
  out.byte_of.fill(-1);
  char16_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char16_t character = stands_for_itself(byte) ? static_cast<char16_t>(byte) : next++;
    out.character_of[byte] = character;
    out.byte_of[character] = static_cast<std::int16_t>(byte);
  }
  return out;
}

constexpr Alphabet kAlphabet = make_alphabet();

constexpr int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string byte_character(unsigned char byte) {
  std::string out;
  append_utf8(out, kAlphabet.character_of[byte]);
  return out;
}

std::optional<std::string> alphabet_bytes(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const char32_t code = next_code_point(text, at);
    if (code >= kAlphabet.byte_of.size() || kAlphabet.byte_of[code] < 0) return std::nullopt;
    out.push_back(static_cast<char>(kAlphabet.byte_of[code]));
  }
  return out;
}

std::optional<unsigned char> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  // The reference parses the two digits as an unsigned number, which may begin with a plus sign.
  const int high = token[3] == '+' ? 0 : hex_digit(token[3]);
  const int low = hex_digit(token[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<unsigned char>(high * 16 + low);
}

std::string fallback_token(unsigned char byte) { return fmt::format("<0x{:02X}>", byte); }

}  // namespace pd::model::tokenizing
