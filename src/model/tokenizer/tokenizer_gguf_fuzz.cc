// A GGUF file; its tokenizer, if it has one, on a fixed text.
#include <cstddef>
#include <cstdint>
#include <span>

#include "model/checkpoint/gguf.h"
#include "model/tokenizer/tokenizer_fuzz_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto gguf = pd::model::Gguf::parse(std::as_bytes(std::span(data, size)), "fuzz");
  if (!gguf) return 0;
  const auto tokenizer = pd::model::Tokenizer::from_gguf(**gguf);
  if (tokenizer) pd::model::check_tokenizer(*tokenizer, "Hello  it's <s> 123\r\n\n é 中🙂 \x01");
  return 0;
}
