// What must hold for any tokenizer, text and ids; a breach ends the fuzzer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/text.h"
#include "model/tokenizer/tokenizer.h"

namespace pd::model {

inline void check_decoding(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  for (const bool skip_special : {false, true}) {
    const auto whole = tokenizer.decode(ids, skip_special);
    CHECK(whole.has_value());
    CHECK(is_valid_utf8(*whole));
    StreamDecoder stream(tokenizer, skip_special);
    std::string pieces;
    for (const TokenId id : ids) {
      const std::string piece = stream.append(id);
      CHECK(is_valid_utf8(piece));
      pieces += piece;
    }
    pieces += stream.finish();
    CHECK(pieces == *whole);
  }
}

// Encodes `text` with all options and decodes what comes out; then takes the bytes as ids.
inline void check_tokenizer(const Tokenizer& tokenizer, std::string_view text) {
  for (const EncodeOptions options : {EncodeOptions{true, true}, EncodeOptions{false, false}}) {
    const auto ids = tokenizer.encode(text, options);
    if (!ids) continue;
    CHECK(is_valid_utf8(text));
    CHECK(*tokenizer.encode(text, options) == *ids);  // what was learned changes nothing
    check_decoding(tokenizer, *ids);
  }
  if (tokenizer.vocab_size() == 0) return;
  std::vector<TokenId> ids;
  for (std::size_t i = 0; i + 1 < text.size() && ids.size() < 500; i += 2) {
    const auto low = static_cast<unsigned char>(text[i]);
    const auto high = static_cast<unsigned char>(text[i + 1]);
    ids.push_back((high * 256 + low) % tokenizer.vocab_size());
  }
  check_decoding(tokenizer, ids);
}

}  // namespace pd::model
