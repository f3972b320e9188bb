// The character classes and field rules of RFC 9110 and 9112 that both parsers and both writers
// share. Pure functions. Internal to net.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/http_types.h"

namespace pd::net {

// Why a message is refused, and with which status a server answers it. The text holds none of the
// peer's bytes except names that have passed is_token().
struct HttpProblem {
  int status = 400;
  std::string message;
};

bool is_token_char(char c);                  // RFC 9110, 5.6.2
bool is_token(std::string_view text);        // 1 or more of them
bool is_field_value(std::string_view text);  // HTAB, SP, visible ASCII, obs-text: no other controls
bool is_target(std::string_view text);       // characters of a URI (RFC 3986), no fragment
bool is_authority(std::string_view text);    // characters of host[:port]; may be empty
std::string to_lower(std::string_view text);
bool equal_ignoring_case(std::string_view a, std::string_view b);
std::string_view trim_whitespace(std::string_view text);  // SP and HTAB at both ends
// Is `token` among the comma-separated elements of `list`, ignoring case?
bool list_has(std::string_view list, std::string_view token);

// Digits only, at least one; nullopt also when the value exceeds 2^63 - 1.
std::optional<std::uint64_t> parse_decimal(std::string_view text);
std::optional<std::uint64_t> parse_hexadecimal(std::string_view text);

// One field line without its CRLF: "Name: value", no space before the colon, no folded line.
std::expected<Header, HttpProblem> parse_field(std::string_view line);

// How the body that follows a head is delimited, and what happens to the connection afterwards.
struct Framing {
  bool chunked = false;
  std::optional<std::uint64_t> content_length;
  bool close = false;       // Connection: close
  bool keep_alive = false;  // Connection: keep-alive
};
// Refuses whatever two parsers could read differently: Content-Length twice or with
// Transfer-Encoding, a Transfer-Encoding other than exactly `chunked`, or one in HTTP/1.0.
std::expected<Framing, HttpProblem> framing_of(const std::vector<Header>& headers,
                                               int version_minor);

}  // namespace pd::net
