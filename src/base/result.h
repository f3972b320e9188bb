// Errors as values. One closed list of codes for the whole system; the gateway maps it to HTTP in
// one table (protocol/http_status.h). Expected outcomes (busy, queued) are not errors: they are
// enums.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace pd {

enum class ErrorCode {
  kInvalidArgument,   // the caller's input is wrong; the message names the field and the fix
  kUnsupported,       // valid input that this system does not serve; the message names it
  kNotFound,          // a named thing does not exist
  kAlreadyExists,     // a named thing exists and must not
  kUnauthorized,      // no or wrong credential
  kTooLarge,          // a size or count is over its limit
  kNoCapacity,        // busy: not a fault, try later or elsewhere
  kDeadlineExceeded,  // the request's deadline passed
  kCancelled,         // the holder gave up
  kUnavailable,       // the peer or the device is gone or unreachable
  kCorrupt,           // data fails its digest, epoch or format check
  kIncompatible,      // layout, version, weights or wire format of two sides differ
  kInternal,          // a broken invariant that did not warrant ending the process
};

std::string_view to_string(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;  // one line, complete: what, where, and what to do

  friend bool operator==(const Error&, const Error&) = default;
};

template <typename T>
using Result = std::expected<T, Error>;
using Status = std::expected<void, Error>;

inline std::unexpected<Error> error(ErrorCode code, std::string message) {
  return std::unexpected(Error{code, std::move(message)});
}

}  // namespace pd
