#include <cstdlib>

#include "transfer/ucx_wire.h"

// What decodes must encode to the same bytes; nothing may crash.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pd::transfer;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  // Only the first four bytes of an IPv4 address say anything, so addresses are not compared.
  (void)decode_address(bytes);
  if (const auto m = decode_region_key(bytes); m && encode(*m) != bytes) std::abort();
  if (const auto m = decode_hello(bytes); m && encode(*m) != bytes) std::abort();
  if (const auto m = decode_welcome(bytes); m && encode(*m) != bytes) std::abort();
  if (const auto m = decode_read(bytes); m && encode(*m) != bytes) std::abort();
  (void)decode_message_header(bytes);
  return 0;
}
