// Reads what a tokenizer_config.json adds to a tokenizer.json.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "model/tokenizer/tokenizer_parts.h"

namespace pd::model::tokenizing {

inline constexpr std::size_t kTokenizerConfigBytesMax = 8u * 1024 * 1024;

// bos_token and eos_token; add_bos_token and add_eos_token where the post-processor adds nothing.
Status apply_tokenizer_config(std::string_view json, const std::string& name,
                              TokenizerParts& parts);

}  // namespace pd::model::tokenizing
