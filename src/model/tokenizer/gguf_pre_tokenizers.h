// What the names in tokenizer.ggml.pre stand for.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

namespace pd::model::tokenizing {

struct GgufPreTokenizer {
  std::string_view name;
  // Applied one after the other, each cutting what the earlier ones left. The vendors' expressions:
  // llama.cpp spells some of them differently because its engine lacks properties and options.
  std::array<std::string_view, 4> expressions;
  bool ignore_merges = false;
  bool add_bos = false;  // unless tokenizer.ggml.add_bos_token says otherwise
  bool nfc = false;      // the vendor's normalizer, which llama.cpp leaves out
};

// nullptr: an unknown name.
const GgufPreTokenizer* gguf_pre_tokenizer(std::string_view name);

}  // namespace pd::model::tokenizing
