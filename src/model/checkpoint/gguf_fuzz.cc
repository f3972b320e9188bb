#include "model/checkpoint/gguf.h"

#include <cmath>
#include <cstdlib>

#include "model/checkpoint/gguf_config.h"
#include "model/checkpoint/weight_table.h"

// Every tensor that is accepted can be widened; a configuration that is accepted can be bound and
// every row of the bound weights lies where stored_row() says.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pd::model;
  const auto gguf = Gguf::parse(std::as_bytes(std::span(data, size)), "f");
  if (!gguf) return 0;
  std::vector<float> values;
  for (const auto& [name, tensor] : (*gguf)->tensors()) {
    const DTypeBlock block = block_of(tensor.info.dtype);
    const auto blocks = tensor.data.size() / static_cast<std::size_t>(block.bytes);
    values.resize(blocks * static_cast<std::size_t>(block.values));
    widen(tensor.info.dtype, tensor.data, values);
  }
  const auto config = config_from_gguf(**gguf);
  if (!config) return 0;
  for (const float frequency : rope_frequencies(*config)) {
    if (!std::isfinite(frequency) || frequency < 0) std::abort();
  }
  if (config->layers > 8) return 0;  // only more of the same names, and slow
  const auto weights = bind_weights(*config, WeightNames::kGguf, directory_of(**gguf), "f");
  if (!weights) return 0;
  for (const auto& [name, weight] : *weights) {
    const std::int64_t rows = weight.info.shape.front();
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t stored = stored_row(weight, row);
      if (stored < 0 || stored >= rows) std::abort();
    }
  }
  return 0;
}
