#include <cmath>
#include <cstdlib>

#include "model/checkpoint/hf_config.h"
#include "model/checkpoint/weight_table.h"

// Input: config.json, and after a NUL byte generation_config.json. What is accepted is consistent.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pd::model;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t split = text.find('\0');
  std::optional<ConfigText> generation;
  if (split != text.npos) generation = ConfigText{"g", std::string(text.substr(split + 1))};
  const auto config =
      config_from_huggingface({"c", std::string(text.substr(0, split))}, generation);
  if (!config) return 0;
  if (config->heads % config->kv_heads != 0 || config->head_dim % 2 != 0) std::abort();
  for (const pd::TokenId id : config->eos) {
    if (id < 0 || id >= config->vocab) std::abort();
  }
  for (const WeightSpec& spec : weights_of(*config)) {
    if (!byte_size({DType::kF32, spec.shape})) std::abort();
  }
  for (const float frequency : rope_frequencies(*config)) {
    if (!std::isfinite(frequency) || frequency < 0) std::abort();
  }
  return 0;
}
