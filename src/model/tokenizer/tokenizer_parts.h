// A tokenizer taken apart: what the file readers build and the facade runs.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "model/tokenizer/added_tokens.h"
#include "model/tokenizer/bpe_model.h"
#include "model/tokenizer/decoder.h"
#include "model/tokenizer/normalizer.h"
#include "model/tokenizer/pre_tokenizer.h"
#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/vocabulary.h"

namespace pd::model::tokenizing {

struct TokenizerParts {
  Vocabulary vocabulary;
  AddedTokens added;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::optional<BpeModel> model;  // always there once a reader is done
  Decoder decoder;
  std::vector<TokenId> before;  // special tokens the post-processor puts around the text
  std::vector<TokenId> behind;
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
  std::uint64_t digest = 0;
};

}  // namespace pd::model::tokenizing

namespace pd::model {

struct Tokenizer::Impl : tokenizing::TokenizerParts {};

}  // namespace pd::model
