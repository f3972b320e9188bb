// A streaming chat or completion against any OpenAI-compatible server, for the terminal: prints as
// it comes.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cli/server_flags.h"

namespace pd::cli {

// Sends `body` to `path` below the server's base (with "stream": true) and calls `on_text` with
// each piece of text. Blocks the caller. Errors carry the server's own message.
Result<std::string> stream_answer(const Server& server, const std::string& path,
                                  const std::string& body,
                                  const std::function<void(std::string_view)>& on_text);

}  // namespace pd::cli
