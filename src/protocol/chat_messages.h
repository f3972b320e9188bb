// The messages of a chat request: what OpenAI's description allows, as chat templates want them.
#pragma once

#include <nlohmann/json.hpp>

#include "protocol/json_object.h"
#include "protocol/openai_request.h"

namespace pd::protocol {

// Reads `messages`; a mistake is an error in `object` that names its place: messages[2].role. Parts
// of content are joined, those that are no text are refused. In a message null is as good as
// absent, and fields that OpenAI's description does not know go to the template unseen. `out` is
// set on success only.
void read_messages(JsonObject& object, const ApiLimits& limits, nlohmann::ordered_json& out);

}  // namespace pd::protocol
