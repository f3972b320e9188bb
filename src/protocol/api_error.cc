#include "protocol/api_error.h"

#include <fmt/format.h>

#include "base/text.h"

namespace pd::protocol {

namespace {

constexpr std::size_t kNameBytesMax = 200;
constexpr std::size_t kErrorMessageBytesMax = 2000;

std::string cut(std::string_view text, std::size_t bytes_max) {
  if (text.size() <= bytes_max) return std::string(text);
  const auto continues = [&](std::size_t i) {
    return (static_cast<unsigned char>(text[i]) & 0xC0U) == 0x80U;
  };
  std::size_t end = bytes_max;
  while (end > 0 && bytes_max - end < 3 && continues(end)) --end;
  return std::string(text.substr(0, end)) + "\u2026";
}

}  // namespace

std::string shortened(std::string_view text) { return cut(text, kNameBytesMax); }

ApiError invalid_field(std::string_view field, std::string message) {
  return {400, "invalid_request_error", std::move(message), std::string(field), ""};
}

ApiError unsupported_field(std::string_view field, std::string_view why) {
  return {400, "invalid_request_error", fmt::format("'{}' is not supported: {}", field, why),
          std::string(field), "unsupported_parameter"};
}

ApiError to_api_error(const Error& error) {
  const auto make = [&](int status, const char* type, const char* code) {
    return ApiError{status, type, error.message, "", code};
  };
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
      return make(400, "invalid_request_error", "invalid_request");
    case ErrorCode::kUnsupported:
      return make(400, "invalid_request_error", "unsupported");
    case ErrorCode::kNotFound:
      return make(404, "invalid_request_error", "not_found");
    case ErrorCode::kAlreadyExists:
      return make(409, "invalid_request_error", "already_exists");
    case ErrorCode::kUnauthorized:
      return make(401, "authentication_error", "unauthorized");
    case ErrorCode::kTooLarge:
      return make(413, "invalid_request_error", "too_large");
    case ErrorCode::kNoCapacity:
      return make(429, "rate_limit_error", "no_capacity");
    case ErrorCode::kDeadlineExceeded:
      return make(504, "timeout_error", "deadline_exceeded");
    case ErrorCode::kCancelled:
      return make(499, "invalid_request_error", "cancelled");
    case ErrorCode::kUnavailable:
      return make(503, "server_error", "unavailable");
    case ErrorCode::kCorrupt:
      return make(502, "server_error", "corrupt");
    case ErrorCode::kIncompatible:
      return make(502, "server_error", "incompatible");
    case ErrorCode::kInternal:
      return make(500, "server_error", "internal");
  }
  return make(500, "server_error", "internal");
}

std::string to_json(const ApiError& error) {
  std::string out = "{\"error\":{\"message\":\"";
  append_json_escaped(out, cut(error.message, kErrorMessageBytesMax));
  out += "\",\"type\":\"";
  append_json_escaped(out, error.type);
  const auto nullable = [&](const char* name, const std::string& value) {
    out += fmt::format("\",\"{}\":", name);
    if (value.empty()) {
      out += "null";
    } else {
      out += '"';
      append_json_escaped(out, value);
      out += '"';
    }
  };
  nullable("param", shortened(error.param));
  out += ",\"code\":";
  if (error.code.empty()) {
    out += "null";
  } else {
    out += '"';
    append_json_escaped(out, error.code);
    out += '"';
  }
  out += "}}";
  return out;
}

}  // namespace pd::protocol
