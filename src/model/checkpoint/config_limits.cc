#include "model/checkpoint/config_limits.h"

#include <fmt/format.h>

namespace pd::model {

Status check_relations(const ModelConfig& config, const ConfigFieldNames& names,
                       std::string_view file) {
  if (config.heads % config.kv_heads != 0) {
    return error(ErrorCode::kUnsupported,
                 fmt::format("{}: {}: {} does not divide {} ({})", file, names.kv_heads,
                             config.kv_heads, names.heads, config.heads));
  }
  if (config.head_dim % 2 != 0) {
    return error(ErrorCode::kUnsupported,
                 fmt::format("{}: {}: {} is odd; rotary position embedding needs an even size",
                             file, names.head_dim, config.head_dim));
  }
  return {};
}

}  // namespace pd::model
