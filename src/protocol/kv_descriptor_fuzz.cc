#include <cstdlib>

#include "protocol/kv_descriptor.h"

// What decodes must encode to the same bytes; nothing may crash or allocate beyond the input.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto descriptor = pd::protocol::decode_kv_descriptor(bytes);
  if (descriptor && pd::protocol::encode(*descriptor) != bytes) std::abort();
  return 0;
}
