#include <cstdlib>

#include "protocol/control_messages.h"
#include "protocol/topology.h"

// What parses must be written as something that parses to the same value.
template <typename Message, typename Parse>
static void round_trip(std::string_view text, Parse parse) {
  const auto message = parse(text);
  if (!message) return;
  const auto again = parse(to_json(*message));
  if (!again || !(*again == *message)) std::abort();
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pd::protocol;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  round_trip<Registration>(text, parse_registration);
  round_trip<Assignment>(text, parse_assignment);
  round_trip<Topology>(text, parse_topology);
  round_trip<WorkerStatus>(text, parse_worker_status);
  return 0;
}
