// What the API says when a request cannot be served: OpenAI's error object and its HTTP status.
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pd::protocol {

struct ApiError {
  int status = 500;
  std::string type;     // "invalid_request_error", "rate_limit_error", "server_error", ...
  std::string message;  // names the cause and the fix
  std::string param;    // the field to blame; empty: null
  std::string code;     // machine-readable; empty: null
};

template <typename T>
using ApiResult = std::expected<T, ApiError>;

// What a client sent, for a message that names it: its first 200 bytes, whole characters, and an
// ellipsis for what is left out.
std::string shortened(std::string_view text);

// 400 that names a field.
ApiError invalid_field(std::string_view field, std::string message);
ApiError unsupported_field(std::string_view field, std::string_view why);

// The one table from ErrorCode to HTTP. Messages of internal faults go to the client as they are:
// they name no address and no path.
ApiError to_api_error(const Error& error);

// {"error": {"message": ..., "type": ..., "param": ..., "code": ...}}; no text that an instance or
// a model's chat template made of the request makes it large.
std::string to_json(const ApiError& error);

}  // namespace pd::protocol
