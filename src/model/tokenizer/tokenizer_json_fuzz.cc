// A tokenizer.json, then a byte FF (in no JSON), then a text for it.
#include <cstddef>
#include <cstdint>

#include "model/tokenizer/tokenizer_fuzz_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = input.find('\xFF');
  const auto tokenizer = pd::model::Tokenizer::from_json(std::string(input.substr(0, end)), "fuzz");
  if (!tokenizer) return 0;
  const std::string_view text = end == std::string_view::npos ? "Hi  <s> é" : input.substr(end + 1);
  // Forged expressions may take quadratic time.
  pd::model::check_tokenizer(*tokenizer, text.substr(0, 1000));
  return 0;
}
