// `pdserve render`: JSON lines in, each an object with the template's variables; one JSON line out
// for each:
// {"text": ...} or {"error": ...}. Blank lines are passed over.
#pragma once

#include <cstdint>
#include <iosfwd>

#include "model/chat_template/chat_template.h"

namespace pd::cli {

// Runs until the input ends. The exit status: 0, or 1 if a line failed. A bad line does not end the
// run.
int run_render(std::istream& in, std::ostream& out, const model::ChatTemplate& chat_template,
               std::int64_t unix_seconds);

}  // namespace pd::cli
