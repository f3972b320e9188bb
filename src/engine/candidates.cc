#include "engine/candidates.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/check.h"

namespace pd::engine {
namespace {

// Loops over lanes of this width have no dependence between lanes: the compiler vectorises them
// without being allowed to reorder anything.
constexpr std::size_t kLanes = 16;

using Float4 [[gnu::vector_size(16)]] = float;
using Int4 [[gnu::vector_size(16)]] = std::int32_t;
using Double4 [[gnu::vector_size(32)]] = double;
using Long4 [[gnu::vector_size(32)]] = std::uint64_t;

// Four masses. Cephes expf: r = x - k ln 2 in [-ln 2 / 2, ln 2 / 2], polynomial of degree 7, times
// 2^k: the same operations on every machine, which libm does not promise. Vectors of the language,
// because g++ 12 does not vectorise the loop over scalars (7 ns instead of 2 ns per score).
inline void four_masses(const float* scores, std::uint64_t* masses) {
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  constexpr double kMagic = 0x1.0p52;    // the same for doubles: low bits become the integer
  Float4 x;
  std::memcpy(&x, scores, sizeof x);
  const Float4 lowest = Float4{} - 30.0F;  // e^-30 * 2^42 rounds to 0
  x = x > lowest ? x : lowest;
  const Float4 shifted = x * 1.44269504088896341F + kRound;
  const Float4 k = shifted - kRound;
  const Float4 r = (x - k * 0.693359375F) - k * -2.12194440e-4F;
  Float4 y = r * 1.9875691500e-4F + 1.3981999507e-3F;
  y = y * r + 8.3334519073e-3F;
  y = y * r + 4.1665795894e-2F;
  y = y * r + 1.6666665459e-1F;
  y = y * r + 5.0000001201e-1F;
  y = y * (r * r) + r + 1.0F;
  const Int4 scale = ((Int4)shifted - (0x4B400000 - 127)) << 23;
  y *= (Float4)scale;
  const Double4 fixed = __builtin_convertvector(y, Double4) * 0x1.0p42 + kMagic;
  const Long4 out = (Long4)fixed - std::bit_cast<std::uint64_t>(kMagic);
  std::memcpy(masses, &out, sizeof out);
}

// Scores and masses on the stack: 12 KiB, inside the first-level cache.
constexpr std::size_t kPiece = 1024;

constexpr std::size_t kBuckets = 1024;

// Monotone in the score, so that a bucket is a contiguous piece of the order. 1/32 wide: about
// 1,000 buckets between the likeliest and mass 0.
inline std::size_t bucket_of(float score) {
  return static_cast<std::size_t>(std::min(-score, 31.9F) * 32.0F);
}

}  // namespace

void masses_of(std::span<const float> scores, std::span<std::uint64_t> masses) {
  CHECK(scores.size() == masses.size());
  std::size_t i = 0;
  for (; i + 4 <= scores.size(); i += 4) four_masses(&scores[i], &masses[i]);
  if (i == scores.size()) return;
  std::array<float, 4> last{};
  std::array<std::uint64_t, 4> out;
  std::copy(scores.begin() + static_cast<std::ptrdiff_t>(i), scores.end(), last.begin());
  four_masses(last.data(), out.data());
  std::copy_n(out.begin(), scores.size() - i, masses.begin() + static_cast<std::ptrdiff_t>(i));
}

Peak peak_of(std::span<const float> logits) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  std::array<float, kLanes> best;
  std::array<std::int32_t, kLanes> bad{};
  best.fill(kLowest);
  const float* in = logits.data();
  std::size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float x = in[i + lane];
      best[lane] = x > best[lane] ? x : best[lane];
      bad[lane] |= x <= std::numeric_limits<float>::max() ? 0 : 1;  // NaN compares false
    }
  }
  for (std::size_t lane = 0; i < logits.size(); ++i, ++lane) {
    best[lane] = in[i] > best[lane] ? in[i] : best[lane];
    bad[lane] |= in[i] <= std::numeric_limits<float>::max() ? 0 : 1;
  }
  Peak peak;
  peak.value = *std::max_element(best.begin(), best.end());
  const bool any_bad = std::any_of(bad.begin(), bad.end(), [](std::int32_t b) { return b != 0; });
  peak.valid = !any_bad && peak.value > kLowest;
  if (!peak.valid) return peak;
  const auto at = std::find(logits.begin(), logits.end(), peak.value);
  peak.id = static_cast<TokenId>(at - logits.begin());
  return peak;
}

double log_total(std::span<const float> logits, float peak) {
  std::array<float, kPiece> scores;
  std::array<std::uint64_t, kPiece> masses;
  std::uint64_t total = 0;
  for (std::size_t start = 0; start < logits.size(); start += kPiece) {
    const std::size_t count = std::min(kPiece, logits.size() - start);
    for (std::size_t i = 0; i < count; ++i) scores[i] = logits[start + i] - peak;
    masses_of({scores.data(), count}, {masses.data(), count});
    total += std::accumulate(masses.data(), masses.data() + count, std::uint64_t{0});
  }
  return std::log(static_cast<double>(total) / static_cast<double>(kMassOfLikeliest));
}

struct Candidates::Piece {
  std::size_t count = 0;
  std::array<float, kPiece> scores;
  std::array<std::uint64_t, kPiece> masses;  // after weigh()

  void weigh() { masses_of({scores.data(), count}, {masses.data(), count}); }
  std::uint64_t total() const {
    return std::accumulate(masses.data(), masses.data() + count, std::uint64_t{0});
  }
};

Candidates::Candidates(std::span<const float> logits, float peak, float temperature)
    : logits_(logits), peak_(peak), temperature_(temperature) {
  CHECK(logits.size() <= kVocabMax);
  CHECK(temperature > 0.0F);
}

void Candidates::keep_top_k(std::int32_t k) {
  CHECK(k >= 1);
  keep_prefix(Weight::kOne, bucket_sums(Weight::kOne), static_cast<std::uint64_t>(k));
}

void Candidates::keep_top_p(float p) {
  if (p >= 1.0F) return;
  const std::vector<std::uint64_t> sums = bucket_sums(Weight::kMass);
  const std::uint64_t total = std::accumulate(sums.begin(), sums.end(), std::uint64_t{0});
  const double target = std::ceil(static_cast<double>(p) * static_cast<double>(total));
  keep_prefix(Weight::kMass, sums, target >= 1.0 ? static_cast<std::uint64_t>(target) : 1);
}

void Candidates::keep_min_p(float p) {
  const double share = std::clamp(static_cast<double>(p), 0.0, 1.0);
  const auto least =
      static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(kMassOfLikeliest)));
  keep_if([least](Piece& piece) {
    piece.weigh();
    return [&piece, least](std::size_t i) { return piece.masses[i] >= least; };
  });
}

TokenId Candidates::draw(std::uint64_t bits) const {
  std::vector<std::uint64_t> totals;
  for_each_piece([&](std::size_t, Piece& piece) {
    piece.weigh();
    totals.push_back(piece.total());
  });
  const std::uint64_t total = std::accumulate(totals.begin(), totals.end(), std::uint64_t{0});
  __extension__ using Wide = unsigned __int128;
  auto left = static_cast<std::uint64_t>((static_cast<Wide>(bits) * total) >> 64);
  std::size_t at = 0;
  while (left >= totals[at]) left -= totals[at++];
  Piece piece;
  load(at * kPiece, piece);
  piece.weigh();
  std::size_t i = 0;
  while (left >= piece.masses[i]) left -= piece.masses[i++];
  const std::size_t index = at * kPiece + i;
  return all_ ? static_cast<TokenId>(index) : ids_[index];
}

std::vector<TokenId> Candidates::ids() const {
  std::vector<TokenId> out = ids_;
  if (all_) {
    out.resize(logits_.size());
    std::iota(out.begin(), out.end(), TokenId{0});
  }
  return out;
}

void Candidates::load(std::size_t start, Piece& piece) const {
  piece.count = std::min(kPiece, size() - start);
  if (!all_) {
    std::copy_n(scores_.begin() + static_cast<std::ptrdiff_t>(start), piece.count,
                piece.scores.begin());
    return;
  }
  const float* in = logits_.data() + start;
  const float peak = peak_;
  const float temperature = temperature_;
  for (std::size_t i = 0; i < piece.count; ++i) piece.scores[i] = (in[i] - peak) / temperature;
}

template <typename Visit>
void Candidates::for_each_piece(const Visit& visit) const {
  Piece piece;
  for (std::size_t start = 0; start < size(); start += kPiece) {
    load(start, piece);
    visit(start, piece);
  }
}

std::vector<std::uint64_t> Candidates::bucket_sums(Weight weight) const {
  std::vector<std::uint64_t> sums(kBuckets);
  for_each_piece([&](std::size_t, Piece& piece) {
    if (weight == Weight::kMass) {
      piece.weigh();
    } else {
      piece.masses.fill(1);
    }
    for (std::size_t i = 0; i < piece.count; ++i) {
      sums[bucket_of(piece.scores[i])] += piece.masses[i];
    }
  });
  return sums;
}

// Keeps the shortest prefix of the order whose weights sum to at least `target` (all of it when
// they do not). The sums say in which bucket the prefix ends; only that bucket is ordered, and by
// selection, not by sorting.
void Candidates::keep_prefix(Weight weight, std::span<const std::uint64_t> sums,
                             std::uint64_t target) {
  std::size_t last = 0;
  while (last < kBuckets && sums[last] < target) target -= sums[last++];
  if (last == kBuckets) return;
  keep_if([last](Piece& piece) {
    return [&piece, last](std::size_t i) { return bucket_of(piece.scores[i]) <= last; };
  });

  std::vector<std::uint32_t> inside;
  for (std::size_t i = 0; i < scores_.size(); ++i) {
    if (bucket_of(scores_[i]) == last) inside.push_back(static_cast<std::uint32_t>(i));
  }
  const std::size_t boundary = prefix_end(weight, inside, target);
  const float least = scores_[boundary];
  std::size_t kept = 0;
  for (std::size_t i = 0; i < ids_.size(); ++i) {
    if (scores_[i] < least || (scores_[i] == least && i > boundary)) continue;
    ids_[kept] = ids_[i];
    scores_[kept++] = scores_[i];
  }
  ids_.resize(kept);
  scores_.resize(kept);
}

// The last of the shortest prefix of `inside`, in order, whose weights sum to at least `target`.
std::size_t Candidates::prefix_end(Weight weight, std::vector<std::uint32_t>& inside,
                                   std::uint64_t target) const {
  // Positions rise with ids, so position breaks ties as id does.
  const auto before = [this](std::uint32_t a, std::uint32_t b) {
    return scores_[a] != scores_[b] ? scores_[a] > scores_[b] : a < b;
  };
  std::vector<std::uint64_t> weights(scores_.size(), 1);
  if (weight == Weight::kMass) masses_of(scores_, weights);
  auto low = inside.begin();
  auto high = inside.end();
  while (high - low > 64) {
    const auto middle = low + (high - low) / 2;
    std::nth_element(low, middle, high, before);
    std::uint64_t sum = 0;
    for (auto it = low; it != middle; ++it) sum += weights[*it];
    if (sum >= target) {
      high = middle;
    } else {
      target -= sum;
      low = middle;
    }
  }
  std::sort(low, high, before);
  while (low + 1 != high && weights[*low] < target) target -= weights[*low++];
  return *low;
}

// `keep(piece)` gives the predicate for the positions of a piece.
template <typename Keep>
void Candidates::keep_if(const Keep& keep) {
  std::vector<TokenId> ids;
  std::vector<float> scores;
  for_each_piece([&](std::size_t start, Piece& piece) {
    const auto kept = keep(piece);
    for (std::size_t i = 0; i < piece.count; ++i) {
      if (!kept(i)) continue;
      ids.push_back(all_ ? static_cast<TokenId>(start + i) : ids_[start + i]);
      scores.push_back(piece.scores[i]);
    }
  });
  ids_ = std::move(ids);
  scores_ = std::move(scores);
  all_ = false;
}

}  // namespace pd::engine
