#include "transfer/ucx_status.h"

#include <fmt/format.h>
#include <ucs/debug/debug.h>
#include <ucs/debug/log_def.h>
#include <ucs/type/status.h>

#include <csignal>
#include <cstdio>
#include <mutex>

#include "base/log.h"

namespace pd::transfer {

namespace {

ucs_log_func_rc_t forward_log_line(const char*, unsigned, const char*, ucs_log_level_t level,
                                   const ucs_log_component_config_t*, const char* format,
                                   va_list arguments) {
  // Whatever matters comes to us as a status too: a peer that went away is no error of this
  // process.
  const bool loud = level <= UCS_LOG_LEVEL_WARN;
  if (!log::enabled(loud ? log::Level::kInfo : log::Level::kDebug)) return UCS_LOG_FUNC_RC_STOP;
  char line[512];
  std::vsnprintf(line, sizeof(line), format, arguments);
  if (loud) {
    log::info("ucx: {}", line);
  } else {
    log::debug("ucx: {}", line);
  }
  return UCS_LOG_FUNC_RC_STOP;
}

}  // namespace

Error ucx_error(const std::string& what, int status) {
  const auto code = static_cast<ucs_status_t>(status);
  const std::string message = fmt::format("{}: {}", what, ucs_status_string(code));
  switch (code) {
    case UCS_ERR_NO_MEMORY:
    case UCS_ERR_NO_RESOURCE:
    case UCS_ERR_EXCEEDS_LIMIT:
      return {ErrorCode::kNoCapacity, message};
    case UCS_ERR_INVALID_PARAM:
    case UCS_ERR_INVALID_ADDR:
      return {ErrorCode::kInvalidArgument, message};
    default:
      return {ErrorCode::kUnavailable, message};
  }
}

void tame_ucx() {
  // The hooks are the library's own process-wide state; so is this flag.
  static std::once_flag once;
  std::call_once(once, [] {
    ucs_log_push_handler(forward_log_line);
    for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) ucs_debug_disable_signal(signal);
  });
}

}  // namespace pd::transfer
