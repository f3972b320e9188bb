#include "protocol/access_file.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const auto file = pd::protocol::parse_access_file(
      std::string_view(reinterpret_cast<const char*>(data), size), "f");
  if (file && file->keys.empty()) __builtin_trap();
  return 0;
}
