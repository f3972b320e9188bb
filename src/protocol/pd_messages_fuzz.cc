#include <cstdlib>

#include "protocol/pd_messages.h"

// What decodes must encode to the same bytes; nothing may crash or allocate beyond the input's
// size.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pd::protocol;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto m = decode_prefill_request(bytes); m && encode(*m) != bytes) std::abort();
  if (const auto m = decode_decode_request(bytes); m && encode(*m) != bytes) std::abort();
  if (const auto m = decode_lease_list(bytes); m && encode(*m) != bytes) std::abort();
  if (const auto m = decode_lease_answer(bytes); m && encode(*m) != bytes) std::abort();
  std::string again;
  std::string_view rest = bytes;
  LegFrameReader frames;
  while (true) {
    const auto frame = frames.next(rest);
    if (!frame || !*frame) break;
    append_leg(again, (*frame)->leg);
    append_frame(again, (*frame)->frame);
  }
  if (!bytes.starts_with(again)) std::abort();
  again.clear();
  rest = bytes;
  LegCommandReader commands;
  while (true) {
    const auto command = commands.next(rest);
    if (!command || !*command) break;
    std::visit([&](const auto& what) { append_command(again, what); }, **command);
  }
  if (!bytes.starts_with(again)) std::abort();
  return 0;
}
