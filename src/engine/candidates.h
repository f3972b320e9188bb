// The tokens that may still be drawn, cut down filter by filter. A token's probability is an
// integer mass, 2^42 for the likeliest: integer sums do not depend on their order, so top-p and the
// draw are exact whatever the vocabulary's size. A token below 2^-43 of the likeliest has mass 0.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/units.h"

namespace pd::engine {

inline constexpr std::uint64_t kMassOfLikeliest = std::uint64_t{1} << 42;
inline constexpr std::size_t kVocabMax = std::size_t{1} << 21;  // masses must not overflow 64 bits

// exp(score) * 2^42 for scores <= 0; relative error of exp below 2^-22.
void masses_of(std::span<const float> scores, std::span<std::uint64_t> masses);

struct Peak {
  float value = 0.0F;  // the largest logit
  TokenId id = 0;      // the smallest id that has it
  bool valid = false;  // no NaN, no +inf, at least one finite
};
Peak peak_of(std::span<const float> logits);

// log(sum(exp(logits))) - peak.
double log_total(std::span<const float> logits, float peak);

// Order everywhere: score falling, then id rising. Filters keep the first candidate at least.
class Candidates {
 public:
  // scores = (logits - peak) / temperature; temperature > 0.
  Candidates(std::span<const float> logits, float peak, float temperature);

  void keep_top_k(std::int32_t k);  // k >= 1
  void keep_top_p(float p);         // the shortest prefix whose share of the mass is at least p
  void keep_min_p(float p);         // those with at least p times the likeliest's mass
  TokenId draw(std::uint64_t bits) const;

  std::span<const TokenId> ids() const { return ids_; }  // rising

 private:
  template <typename Weight>
  void keep_prefix(std::uint64_t target, const Weight& weight);
  template <typename Keep>
  void keep_if(const Keep& keep);
  void weigh();

  std::vector<TokenId> ids_;
  std::vector<float> scores_;
  std::vector<std::uint64_t> masses_;  // empty until weigh()
};

}  // namespace pd::engine
