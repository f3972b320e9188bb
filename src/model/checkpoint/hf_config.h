// config.json and generation_config.json of a Hugging Face folder as a ModelConfig, with the
// defaults that `transformers` 5 has for each family.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "model/config.h"

namespace pd::model {

struct ConfigText {
  std::string name;  // for messages, usually the path
  std::string json;
};

// End ids are those of both files. Errors: kCorrupt (a field's type or range), kUnsupported (an
// architecture, activation, RoPE kind, bias or quantisation that this system does not compute); the
// message names file and field.
Result<ModelConfig> config_from_huggingface(const ConfigText& config,
                                            const std::optional<ConfigText>& generation);

}  // namespace pd::model
