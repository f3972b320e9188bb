#include "numerics/reference_vectors.h"

#include "base/check.h"

namespace pd::numerics {
namespace {

constexpr std::size_t kGreedyTokens = 32;

model::Safetensors open(const std::string& name) {
  auto file = model::Safetensors::open(std::string(PD_SOURCE_DIR "/tests/data/reference/") + name +
                                       ".safetensors");
  CHECK(file.has_value());
  return std::move(*file);
}

}  // namespace

ReferenceVectors::ReferenceVectors(const std::string& name) : file_(open(name)) {
  prompts = split("prompts.tokens", "prompts.offsets");
  const auto which = values<std::int32_t>("logits.prompt");
  const auto where = values<std::int32_t>("logits.position");
  const auto rows = values<float>("logits.values");
  const auto max_abs = values<float>("logits.max_abs");
  const bool sampled = file_.tensors().contains("logits.ids");
  const std::size_t width = rows.size() / which.size();
  for (std::size_t r = 0; r < which.size(); ++r) {
    LogitsRow row{.prompt = static_cast<std::size_t>(which[r]),
                  .position = where[r],
                  .ids = {},
                  .values = rows.subspan(r * width, width),
                  .max_abs = max_abs[r]};
    if (sampled) row.ids = values<TokenId>("logits.ids").subspan(r * width, width);
    logits.push_back(row);
  }
  const auto generated = values<TokenId>("greedy.generated");
  const auto gap = values<float>("greedy.gap");
  for (const std::span<const TokenId> tokens : split("greedy.tokens", "greedy.offsets")) {
    const std::size_t at = greedy.size() * kGreedyTokens;
    greedy.push_back(
        {tokens, generated.subspan(at, kGreedyTokens), gap.subspan(at, kGreedyTokens)});
  }
}

std::vector<std::span<const TokenId>> ReferenceVectors::split(std::string_view tokens,
                                                              std::string_view offsets) const {
  const auto all = values<TokenId>(tokens);
  const auto at = values<std::int32_t>(offsets);
  std::vector<std::span<const TokenId>> out;
  for (std::size_t i = 0; i + 1 < at.size(); ++i) {
    out.push_back(
        all.subspan(static_cast<std::size_t>(at[i]), static_cast<std::size_t>(at[i + 1] - at[i])));
  }
  return out;
}

}  // namespace pd::numerics
