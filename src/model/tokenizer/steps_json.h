// The sections of a tokenizer.json that describe steps: normalizer, pre_tokenizer, post_processor
// and decoder. A type or option that is not known is kUnsupported and names the field.
#pragma once

#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "model/tokenizer/decoder.h"
#include "model/tokenizer/json_view.h"
#include "model/tokenizer/normalizer.h"
#include "model/tokenizer/pre_tokenizer.h"
#include "model/tokenizer/vocabulary.h"

namespace pd::model::tokenizing {

inline constexpr std::size_t kStepsMax = 64;  // per section

Result<Normalizer> read_normalizer(const JsonView& section);
Result<PreTokenizer> read_pre_tokenizer(const JsonView& section);
Result<Decoder> read_decoder(const JsonView& section);

struct Surroundings {
  std::vector<TokenId> before;
  std::vector<TokenId> behind;
};
Result<Surroundings> read_post_processor(const JsonView& section, const Vocabulary& vocabulary);

}  // namespace pd::model::tokenizing
