// The tokens that may still be drawn, cut down filter by filter. A token's probability is an
// integer mass, 2^42 for the likeliest: integer sums do not depend on their order, so top-p and the
// draw are exact whatever the vocabulary's size. A token below 2^-43 of the likeliest has mass 0.
#pragma once

#include <cstddef>
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
// Nothing of the vocabulary's size is stored: scores are computed again, 1,024 at a time, and only
// what the first filter leaves is kept.
class Candidates {
 public:
  // scores = (logits - peak) / temperature; temperature > 0. `logits` outlive it.
  Candidates(std::span<const float> logits, float peak, float temperature);

  void keep_top_k(std::int32_t k);  // k >= 1
  void keep_top_p(float p);         // the shortest prefix whose share of the mass is at least p
  void keep_min_p(float p);         // those with at least p times the likeliest's mass
  TokenId draw(std::uint64_t bits) const;

  std::vector<TokenId> ids() const;  // rising

 private:
  enum class Weight : std::uint8_t { kOne, kMass };
  struct Piece;

  std::size_t size() const { return all_ ? logits_.size() : ids_.size(); }
  void load(std::size_t start, Piece& piece) const;
  template <typename Visit>
  void for_each_piece(const Visit& visit) const;
  std::vector<std::uint64_t> bucket_sums(Weight weight) const;
  void keep_prefix(Weight weight, std::span<const std::uint64_t> sums, std::uint64_t target);
  std::size_t prefix_end(Weight weight, std::vector<std::uint32_t>& inside,
                         std::uint64_t target) const;
  template <typename Keep>
  void keep_if(const Keep& keep);

  std::span<const float> logits_;
  float peak_;
  float temperature_;
  bool all_ = true;  // no filter yet: the two below are empty
  std::vector<TokenId> ids_;
  std::vector<float> scores_;
};

}  // namespace pd::engine
