#include <cstdlib>

#include "protocol/handoff_message.h"

// What decodes must encode to the same bytes.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto message = pd::protocol::decode_handoff_message(std::as_bytes(std::span(text)));
  if (message && pd::protocol::encode(*message) != text) std::abort();
  return 0;
}
