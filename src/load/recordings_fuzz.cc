// Any file is read as a recording or refused, and what is read keeps its order.
#include <cstdint>
#include <cstdlib>

#include "load/summary.h"
#include "load/workload.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& made :
       {pd::load::read_mooncake(text, "f", 1000), pd::load::read_csv_trace(text, "f", 1000)}) {
    if (!made) continue;
    pd::Duration before{};
    for (const auto& conversation : made->conversations) {
      const auto at = conversation.turns.at(0).at.value_or(before);
      if (at < before) std::abort();
      before = at;
    }
  }
  const std::size_t half = text.find('\0');
  if (half != text.npos) {
    pd::Rng rng(1);
    static_cast<void>(pd::load::sample_servegen(
        {{"c", std::string(text.substr(0, half)), std::string(text.substr(half + 1))}}, {},
        std::chrono::seconds(1), rng));
  }
  static_cast<void>(pd::load::read_summary(text, "f"));
  static_cast<void>(pd::load::read_record(text));
  return 0;
}
