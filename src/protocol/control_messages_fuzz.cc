#include <cstdlib>

#include "protocol/control_messages.h"
#include "protocol/topology.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pd::protocol;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto m = parse_registration(text); m && parse_registration(to_json(*m)) != m)
    std::abort();
  if (const auto m = parse_assignment(text); m && parse_assignment(to_json(*m)) != m) std::abort();
  if (const auto m = parse_topology(text); m && parse_topology(to_json(*m)) != m) std::abort();
  (void)parse_worker_status(text);
  return 0;
}
