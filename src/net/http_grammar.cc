#include "net/http_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace pd::net {
namespace {

enum CharClass : std::uint8_t { kToken = 1, kTarget = 2, kAuthority = 4, kValue = 8 };

constexpr std::array<std::uint8_t, 256> make_classes() {
  std::array<std::uint8_t, 256> table{};
  const auto mark = [&table](std::string_view chars, std::uint8_t classes) {
    for (const char c : chars) table[static_cast<unsigned char>(c)] |= classes;
  };
  for (int c = 0; c < 256; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool digit = c >= '0' && c <= '9';
    if (letter || digit) table[c] |= kToken | kTarget | kAuthority;
    if (c == '\t' || (c >= 0x20 && c != 0x7F)) table[c] |= kValue;
  }
  mark("!#$%&'*+-.^_`|~", kToken);
  mark("-._~!$&'()*+,;=:@/?%[]", kTarget);
  mark("-._~!$&'()*+,;=:%[]", kAuthority);
  return table;
}
constexpr std::array<std::uint8_t, 256> kClasses = make_classes();

bool all_of_class(std::string_view text, std::uint8_t wanted) {
  return std::ranges::all_of(
      text, [wanted](char c) { return (kClasses[static_cast<unsigned char>(c)] & wanted) != 0; });
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::optional<std::uint64_t> parse_number(std::string_view text, unsigned base) {
  constexpr std::uint64_t kMax = (std::uint64_t{1} << 63) - 1;
  if (text.empty()) return std::nullopt;
  std::uint64_t value = 0;
  for (const char raw : text) {
    const char c = lower(raw);
    unsigned digit = base;
    if (c >= '0' && c <= '9') digit = static_cast<unsigned>(c - '0');
    if (c >= 'a' && c <= 'f') digit = static_cast<unsigned>(c - 'a') + 10;
    if (digit >= base) return std::nullopt;
    if (value > (kMax - digit) / base) return std::nullopt;
    value = value * base + digit;
  }
  return value;
}

std::unexpected<HttpProblem> refuse(int status, std::string message) {
  return std::unexpected(HttpProblem{status, std::move(message)});
}

// A transfer coding that ends in anything but chunked leaves the length unknown (400); one before
// chunked would have to be decoded (501).
std::unexpected<HttpProblem> refuse_transfer_encoding(std::string_view value) {
  const std::size_t comma = value.rfind(',');
  const std::string_view last =
      trim_whitespace(comma == std::string_view::npos ? value : value.substr(comma + 1));
  if (comma != std::string_view::npos && equal_ignoring_case(last, "chunked")) {
    return refuse(501, "transfer codings other than a single chunked are not supported");
  }
  return refuse(400, "transfer-encoding must be exactly chunked");
}

}  // namespace

bool is_token_char(char c) { return (kClasses[static_cast<unsigned char>(c)] & kToken) != 0; }
bool is_token(std::string_view text) { return !text.empty() && all_of_class(text, kToken); }
bool is_field_value(std::string_view text) { return all_of_class(text, kValue); }
bool is_target(std::string_view text) { return !text.empty() && all_of_class(text, kTarget); }
bool is_authority(std::string_view text) { return all_of_class(text, kAuthority); }

std::string to_lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), lower);
  return out;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, lower, lower);
}

std::string_view trim_whitespace(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool list_has(std::string_view list, std::string_view token) {
  while (true) {
    const std::size_t comma = list.find(',');
    if (equal_ignoring_case(trim_whitespace(list.substr(0, comma)), token)) return true;
    if (comma == std::string_view::npos) return false;
    list.remove_prefix(comma + 1);
  }
}

std::optional<std::uint64_t> parse_decimal(std::string_view text) { return parse_number(text, 10); }
std::optional<std::uint64_t> parse_hexadecimal(std::string_view text) {
  return parse_number(text, 16);
}

std::expected<Header, HttpProblem> parse_field(std::string_view line) {
  if (line.starts_with(' ') || line.starts_with('\t')) {
    return refuse(400, "a header line starts with white space (folded lines are not accepted)");
  }
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return refuse(400, "a header line has no colon");
  const std::string_view name = line.substr(0, colon);
  if (!is_token(name)) return refuse(400, "a header name has a character that is not allowed");
  const std::string_view value = trim_whitespace(line.substr(colon + 1));
  if (!is_field_value(value)) {
    return refuse(400, fmt::format("the value of header {} has a control character", name));
  }
  return Header(to_lower(name), std::string(value));
}

std::expected<Framing, HttpProblem> framing_of(const std::vector<Header>& headers,
                                               int version_minor) {
  Framing framing;
  bool has_transfer_encoding = false;
  for (const auto& [name, value] : headers) {
    if (name == "content-length") {
      if (framing.content_length) return refuse(400, "content-length is given twice");
      framing.content_length = parse_decimal(value);
      if (!framing.content_length) {
        return refuse(400, "content-length is not a decimal number below 2^63");
      }
    } else if (name == "transfer-encoding") {
      if (has_transfer_encoding) return refuse(400, "transfer-encoding is given twice");
      has_transfer_encoding = true;
      if (!equal_ignoring_case(value, "chunked")) return refuse_transfer_encoding(value);
      framing.chunked = true;
    } else if (name == "connection") {
      framing.close = framing.close || list_has(value, "close");
      framing.keep_alive = framing.keep_alive || list_has(value, "keep-alive");
    }
  }
  if (has_transfer_encoding && framing.content_length) {
    return refuse(400, "content-length and transfer-encoding exclude each other");
  }
  if (has_transfer_encoding && version_minor == 0) {
    return refuse(400, "transfer-encoding does not exist in HTTP/1.0");
  }
  return framing;
}

}  // namespace pd::net
