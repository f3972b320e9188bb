#include "protocol/json_numbers.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>

namespace pd::protocol {

namespace {

constexpr std::size_t kShortDigitsMax = 18;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool ends_no_integer(char c) { return c == '.' || c == 'e' || c == 'E'; }

template <typename T>
bool fits(std::string_view digits) {
  T value{};
  return std::from_chars(digits.data(), digits.data() + digits.size(), value).ec == std::errc();
}

bool fits_64_bits(std::string_view integer) {
  return fits<std::int64_t>(integer) || fits<std::uint64_t>(integer);
}

// Position behind the string that begins at `quote`.
std::size_t behind_string(std::string_view text, std::size_t quote) {
  std::size_t at = quote + 1;
  while (at < text.size() && text[at] != '"') at += text[at] == '\\' ? 2 : 1;
  return std::min(at + 1, text.size());
}

struct Number {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool integer = true;  // without a fraction and an exponent
};

// The first one at `at` or behind, outside of strings.
std::optional<Number> next_number(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    if (text[at] == '"') {
      at = behind_string(text, at);
      continue;
    }
    Number out{.begin = at};
    if (text[at] == '-') ++at;
    out.end = at;
    while (out.end < text.size() && is_digit(text[out.end])) ++out.end;
    if (out.end == at) {
      at = out.begin + 1;
      continue;
    }
    out.integer = out.end == text.size() || !ends_no_integer(text[out.end]);
    if (!out.integer)
      out.end = std::min(text.find_first_not_of("0123456789.eE+-", out.end), text.size());
    return out;
  }
  return std::nullopt;
}

std::size_t significant_digits(std::string_view number) {
  std::size_t count = 0;
  for (const char c : number.substr(0, number.find_first_of("eE"))) {
    if (is_digit(c) && (count > 0 || c != '0')) ++count;
  }
  return count;
}

// Whether so many digits and points stand side by side anywhere, in strings, too. One of them has
// to stand at a multiple of their number: little else is looked at.
bool has_run(std::string_view text, std::size_t length) {
  const auto belongs = [&](std::size_t at) { return is_digit(text[at]) || text[at] == '.'; };
  for (std::size_t at = length - 1; at < text.size(); at += length) {
    std::size_t begin = at, end = at;
    while (begin > 0 && end - begin < length && belongs(begin - 1)) --begin;
    while (end < text.size() && end - begin < length && belongs(end)) ++end;
    if (end - begin == length) return true;
  }
  return false;
}

}  // namespace

bool has_long_number(std::string_view text) {
  if (!has_run(text, kShortDigitsMax + 1)) return false;
  for (auto number = next_number(text, 0); number; number = next_number(text, number->end)) {
    const std::string_view digits = text.substr(number->begin, number->end - number->begin);
    if (digits.size() <= kShortDigitsMax || significant_digits(digits) <= kShortDigitsMax) continue;
    if (!number->integer || !fits_64_bits(digits)) return true;
  }
  return false;
}

// Such an end is allowed wherever a digit is the last of a number.
std::string with_wide_integers(std::string_view text) {
  std::string out;
  std::size_t copied = 0;
  for (auto number = next_number(text, 0); number; number = next_number(text, number->end)) {
    if (!number->integer || fits_64_bits(text.substr(number->begin, number->end - number->begin)))
      continue;
    out += text.substr(copied, number->end - copied);
    out += "e0";
    copied = number->end;
  }
  out += text.substr(copied);
  return out;
}

}  // namespace pd::protocol
