// Any answer of any server is read without harm.
#include <cstdint>

#include "load/answer_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data + 2), size - 2);
  pd::load::AnswerReader reader((data[0] & 1) != 0, (data[0] & 2) != 0);
  reader.head((data[0] & 4) != 0 ? 429 : 200);
  const std::size_t cut = 1 + data[1];
  for (std::size_t at = 0; at < body.size(); at += cut) reader.feed(body.substr(at, cut), {});
  static_cast<void>(reader.verdict());
  static_cast<void>(reader.output_tokens());
  return 0;
}
