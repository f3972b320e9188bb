#include "base/check.h"
#include "protocol/openai_request.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pd::protocol;
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const ApiLimits limits;
  (void)parse_chat_request(body, limits);
  (void)parse_completion_request(body, limits);
  (void)parse_tokenize_request(body, limits);
  const auto read = parse_detokenize_request(body);
  // Whatever was looked into is JSON to another parser, too.
  if (read || read.error().code != "invalid_json") CHECK(nlohmann::json::accept(body));
  return 0;
}
