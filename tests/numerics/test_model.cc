#include "numerics/test_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "base/check.h"

namespace pd::numerics {

std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::erase_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; });
  return name;
}

std::optional<std::string> model_path(const std::string& name) {
  std::string path = PD_SOURCE_DIR "/tests/data/models/" + name;
  if (name == "stories260K") path = PD_SOURCE_DIR "/assets/models/stories260K";
  if (name == "smollm2") path = PD_SOURCE_DIR "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (name == "smollm2-folder") path = PD_SOURCE_DIR "/models/SmolLM2-135M-Instruct";
  if (std::filesystem::exists(path)) return path;
  CHECK(name == "stories260K" || name.starts_with("smollm2"));
  return std::nullopt;
}

engine::Weights load_weights(const std::string& path, engine::ComputeType compute) {
  auto checkpoint = model::Checkpoint::open(path);
  if (!checkpoint) fmt::print(stderr, "{}\n", checkpoint.error().message);
  CHECK(checkpoint.has_value());
  auto weights = engine::Weights::in_memory(**checkpoint, compute);
  if (!weights) fmt::print(stderr, "{}\n", weights.error().message);
  CHECK(weights.has_value());
  return std::move(*weights);
}

std::vector<const engine::Kernels*> all_kernels() {
  std::vector<const engine::Kernels*> out;
  for (const char* name : {"reference", "avx2", "avx512", "avx512_bf16"}) {
    if (const auto kernels = engine::select_kernels(name)) out.push_back(*kernels);
  }
  return out;
}

std::vector<Variant> all_variants(const engine::Weights& weights) {
  std::vector<Variant> out;
  for (const engine::Kernels* kernels : all_kernels()) {
    Variant variant{.kernels = kernels, .layout = kv_layout(weights, *kernels, 16)};
    const bool f32_products = !kernels->rounds_activations(weights.type());
    variant.keeps_f32 = f32_products && variant.layout.dtype == protocol::KvDType::kF32;
    variant.name = kernels->name;
    out.push_back(variant);
    if (f32_products && !variant.keeps_f32) {
      variant.layout.dtype = protocol::KvDType::kF32;
      variant.keeps_f32 = true;
      variant.name += " with KV in f32";
      out.push_back(variant);
    }
  }
  return out;
}

TestKv::TestKv(const protocol::KvLayout& layout, std::int64_t capacity, bool paged)
    : layout_(layout), capacity_(capacity) {
  const std::int64_t per_block = layout.block_tokens;
  const std::int64_t blocks = (capacity + per_block - 1) / per_block;
  const auto size =
      static_cast<std::size_t>(layout.range(Tokens(paged ? blocks * per_block : capacity)).value());
  memory_.assign(size, std::byte{0xFF});
  if (!paged) return;
  const std::int64_t plane = blocks * layout.block_plane().value();
  for (int i = 0; i < 2 * layout.layers; ++i) planes_.push_back(memory_.data() + i * plane);
  // Backwards: consecutive blocks of a sequence need not be neighbours.
  for (std::int64_t b = 0; b < blocks; ++b)
    table_.push_back(BlockIndex(static_cast<std::uint32_t>(blocks - 1 - b)));
}

engine::KvView TestKv::view() const {
  if (!planes_.empty()) return engine::KvView::paged(layout_, planes_, table_);
  return engine::KvView::contiguous(layout_, const_cast<std::byte*>(memory_.data()),
                                    Tokens(capacity_));
}

std::vector<float> run_prompt(engine::Transformer& transformer, const TestKv& kv,
                              std::span<const TokenId> tokens, std::int64_t chunk,
                              std::int64_t rows) {
  std::vector<float> out;
  const auto size = static_cast<std::int64_t>(tokens.size());
  for (std::int64_t at = 0; at < size; at += chunk) {
    const std::int64_t count = std::min(chunk, size - at);
    const std::int64_t first_wanted = std::max(at, size - rows);
    const engine::Segment segment{
        .tokens = tokens.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(count)),
        .position = Tokens(at),
        .kv = kv.view(),
        .logits_rows =
            static_cast<std::int32_t>(std::max<std::int64_t>(0, at + count - first_wanted))};
    const std::span<const float> logits = transformer.forward(std::span(&segment, 1));
    out.insert(out.end(), logits.begin(), logits.end());
  }
  return out;
}

TokenId argmax(std::span<const float> logits) {
  return static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
}

}  // namespace pd::numerics
