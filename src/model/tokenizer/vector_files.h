// The stored test vectors (tests/data/tokenizer, written by tools/make_tokenizer_vectors.py). Tests
// only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "model/tokenizer/tokenizer.h"

namespace pd::model::tokenizing {

// A file below the source folder, unpacked; a missing or broken one ends the test program.
std::string read_gzip(const std::string& path);
std::vector<std::string> read_gzip_lines(const std::string& path);

std::uint64_t fnv1a(std::string_view bytes);
std::uint64_t fnv1a(const std::vector<TokenId>& ids);  // as little-endian 32-bit numbers

// The texts all vocabularies are compared on.
struct TestText {
  std::string text;
  bool long_recipe = false;  // compared by hash
};
const std::vector<TestText>& test_texts();

// Decodes through a StreamDecoder; fails the running test when a piece is not whole characters.
std::string streamed(const Tokenizer& tokenizer, const std::vector<TokenId>& ids,
                     bool skip_special);

}  // namespace pd::model::tokenizing
