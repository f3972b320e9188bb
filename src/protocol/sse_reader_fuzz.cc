// Any bytes in any cut give the same events as the same bytes in one piece.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "protocol/sse_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t cut = 1 + data[0] % 16;
  const std::string_view stream(reinterpret_cast<const char*>(data + 1), size - 1);
  std::vector<std::string> whole, pieces;
  pd::protocol::SseReader one(4096), many(4096);
  const bool fine = one.feed(stream, [&](std::string_view event) { whole.emplace_back(event); });
  bool fine_too = true;
  for (std::size_t at = 0; at < stream.size() && fine_too; at += cut) {
    fine_too = many.feed(stream.substr(at, cut),
                         [&](std::string_view event) { pieces.emplace_back(event); });
  }
  // Where an event is longer than the limit, one piece may show it whole and others not at all.
  if (fine && fine_too && whole != pieces) std::abort();
  return 0;
}
