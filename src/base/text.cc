#include "base/text.h"

#include <fmt/format.h>

namespace pd {

namespace {

void append_hex(std::string& out, std::uint64_t value) {
  for (int shift = 60; shift >= 0; shift -= 4) out += "0123456789abcdef"[value >> shift & 15];
}

}  // namespace

std::string to_hex(std::uint64_t value) {
  std::string out;
  append_hex(out, value);
  return out;
}

std::optional<std::uint64_t> from_hex(std::string_view text) {
  if (text.empty() || text.size() > 16) return std::nullopt;
  std::uint64_t out = 0;
  for (const char c : text) {
    int digit = -1;
    if (c >= '0' && c <= '9') digit = c - '0';
    if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
    if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
    if (digit < 0) return std::nullopt;
    out = (out << 4) | static_cast<std::uint64_t>(digit);
  }
  return out;
}

std::string to_string(const RequestId& id) {
  std::string out;
  out.reserve(32);
  append_hex(out, id.high);
  append_hex(out, id.low);
  return out;
}

std::optional<RequestId> request_id_from(std::string_view text) {
  if (text.size() != 32) return std::nullopt;
  const auto high = from_hex(text.substr(0, 16));
  const auto low = from_hex(text.substr(16));
  if (!high || !low) return std::nullopt;
  return RequestId{*high, *low};
}

namespace {

// Length of the valid UTF-8 sequence that starts at text[i], 0 when there is none.
std::size_t sequence_length(std::string_view text, std::size_t i) {
  const auto at = [&](std::size_t k) -> unsigned {
    return k < text.size() ? static_cast<unsigned char>(text[k]) : 0u;
  };
  const auto continuation = [&](std::size_t k) { return (at(k) & 0xC0u) == 0x80u; };
  const unsigned first = at(i);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continuation(i + 1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if (!continuation(i + 1) || !continuation(i + 2)) return 0;
    if (first == 0xE0 && at(i + 1) < 0xA0) return 0;
    if (first == 0xED && at(i + 1) > 0x9F) return 0;
    return 3;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (!continuation(i + 1) || !continuation(i + 2) || !continuation(i + 3)) return 0;
    if (first == 0xF0 && at(i + 1) < 0x90) return 0;
    if (first == 0xF4 && at(i + 1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

}  // namespace

std::size_t valid_utf8_prefix(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const std::size_t n = sequence_length(text, i);
    if (n == 0) break;
    i += n;
  }
  return i;
}

namespace {

bool is_plain(unsigned char c) { return c >= 0x20 && c < 0x80 && c != '"' && c != '\\'; }

}  // namespace

void append_json_escaped(std::string& out, std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    if (is_plain(c)) {
      const std::size_t begin = i;
      while (i < text.size() && is_plain(static_cast<unsigned char>(text[i]))) ++i;
      out.append(text.substr(begin, i - begin));
      continue;
    }
    if (c >= 0x80) {
      const std::size_t n = sequence_length(text, i);
      if (n == 0) {
        out += "\xEF\xBF\xBD";
        ++i;
      } else {
        out.append(text.substr(i, n));
        i += n;
      }
      continue;
    }
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        fmt::format_to(std::back_inserter(out), "\\u{:04x}", c);
    }
    ++i;
  }
}

void append_utf8(std::string& out, char32_t code_point) {
  if ((code_point >= 0xD800 && code_point <= 0xDFFF) || code_point > 0x10FFFF) code_point = 0xFFFD;
  const auto byte = [&](char32_t value) { out.push_back(static_cast<char>(value)); };
  if (code_point < 0x80) {
    byte(code_point);
  } else if (code_point < 0x800) {
    byte(0xC0 | (code_point >> 6));
    byte(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    byte(0xE0 | (code_point >> 12));
    byte(0x80 | ((code_point >> 6) & 0x3F));
    byte(0x80 | (code_point & 0x3F));
  } else {
    byte(0xF0 | (code_point >> 18));
    byte(0x80 | ((code_point >> 12) & 0x3F));
    byte(0x80 | ((code_point >> 6) & 0x3F));
    byte(0x80 | (code_point & 0x3F));
  }
}

}  // namespace pd
