#include <cstdlib>

#include "protocol/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pd::protocol;
  const auto config =
      parse_config(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz.toml");
  if (config && !parse_config(to_toml(*config), "again.toml")) std::abort();
  return 0;
}
