#include "engine/candidates.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"

namespace pd::engine {
namespace {

// Loops over lanes of this width have no dependence between lanes: the compiler vectorises them
// without being allowed to reorder anything.
constexpr std::size_t kLanes = 16;

// Cephes expf: r = x - k ln 2 in [-ln 2 / 2, ln 2 / 2], polynomial of degree 7, times 2^k. The same
// operations on every machine, which libm does not promise. Written without branches to vectorise.
inline std::uint64_t mass_of(float score) {
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  constexpr double kMagic = 0x1.0p52;    // the same for doubles: low bits become the integer
  const float x = score < -30.0F ? -30.0F : score;  // e^-30 * 2^42 rounds to 0
  const float shifted = x * 1.44269504088896341F + kRound;
  const float k = shifted - kRound;
  const float r = (x - k * 0.693359375F) - k * -2.12194440e-4F;
  float y = 1.9875691500e-4F;
  y = y * r + 1.3981999507e-3F;
  y = y * r + 8.3334519073e-3F;
  y = y * r + 4.1665795894e-2F;
  y = y * r + 1.6666665459e-1F;
  y = y * r + 5.0000001201e-1F;
  y = y * (r * r) + r + 1.0F;
  const std::int32_t exponent = std::bit_cast<std::int32_t>(shifted) - 0x4B400000;
  const float scale = std::bit_cast<float>((exponent + 127) << 23);
  const double fixed = static_cast<double>(y * scale) * 0x1.0p42 + kMagic;
  return std::bit_cast<std::uint64_t>(fixed) - std::bit_cast<std::uint64_t>(kMagic);
}

constexpr std::size_t kBuckets = 1024;

// Monotone in the score, so that a bucket is a contiguous piece of the order. 1/32 wide: about
// 1,000 buckets between the likeliest and mass 0.
inline std::size_t bucket_of(float score) {
  return static_cast<std::size_t>(std::min(-score, 31.9F) * 32.0F);
}

}  // namespace

void masses_of(std::span<const float> scores, std::span<std::uint64_t> masses) {
  CHECK(scores.size() == masses.size());
  const float* in = scores.data();
  std::uint64_t* out = masses.data();
  const std::size_t count = scores.size();
  for (std::size_t i = 0; i < count; ++i) out[i] = mass_of(in[i]);
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
  constexpr std::size_t kPiece = 1024;
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

Candidates::Candidates(std::span<const float> logits, float peak, float temperature)
    : ids_(logits.size()), scores_(logits.size()) {
  CHECK(logits.size() <= kVocabMax);
  CHECK(temperature > 0.0F);
  std::iota(ids_.begin(), ids_.end(), TokenId{0});
  for (std::size_t i = 0; i < logits.size(); ++i) scores_[i] = (logits[i] - peak) / temperature;
}

void Candidates::keep_top_k(std::int32_t k) {
  CHECK(k >= 1);
  keep_prefix(static_cast<std::uint64_t>(k), [](std::size_t) { return std::uint64_t{1}; });
}

void Candidates::keep_top_p(float p) {
  if (p >= 1.0F) return;
  weigh();
  const std::uint64_t total = std::accumulate(masses_.begin(), masses_.end(), std::uint64_t{0});
  const double target = std::ceil(static_cast<double>(p) * static_cast<double>(total));
  const std::uint64_t wanted = target >= 1.0 ? static_cast<std::uint64_t>(target) : 1;
  keep_prefix(wanted, [this](std::size_t i) { return masses_[i]; });
}

void Candidates::keep_min_p(float p) {
  weigh();
  const double share = std::clamp(static_cast<double>(p), 0.0, 1.0);
  const auto least =
      static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(kMassOfLikeliest)));
  keep_if([&](std::size_t i) { return masses_[i] >= least; });
}

TokenId Candidates::draw(std::uint64_t bits) const {
  std::vector<std::uint64_t> fresh;
  if (masses_.empty()) {
    fresh.resize(scores_.size());
    masses_of(scores_, fresh);
  }
  const std::vector<std::uint64_t>& masses = masses_.empty() ? fresh : masses_;
  const std::uint64_t total = std::accumulate(masses.begin(), masses.end(), std::uint64_t{0});
  __extension__ using Wide = unsigned __int128;
  auto left = static_cast<std::uint64_t>((static_cast<Wide>(bits) * total) >> 64);
  for (std::size_t i = 0; i < masses.size(); ++i) {
    if (left < masses[i]) return ids_[i];
    left -= masses[i];
  }
  CHECK(false);  // left < total, so the loop returns
  return 0;
}

void Candidates::weigh() {
  if (!masses_.empty()) return;
  masses_.resize(scores_.size());
  masses_of(scores_, masses_);
}

// Keeps the shortest prefix of the order whose weights sum to at least `target` (all of it when
// they do not). One pass finds the bucket in which the prefix ends; only that bucket is ordered,
// and by selection, not by sorting.
template <typename Weight>
void Candidates::keep_prefix(std::uint64_t target, const Weight& weight) {
  std::array<std::uint64_t, kBuckets> sums{};
  for (std::size_t i = 0; i < scores_.size(); ++i) sums[bucket_of(scores_[i])] += weight(i);
  std::size_t last = 0;
  while (last < kBuckets && sums[last] < target) target -= sums[last++];
  if (last == kBuckets) return;

  std::vector<std::uint32_t> inside;
  for (std::size_t i = 0; i < scores_.size(); ++i) {
    if (bucket_of(scores_[i]) == last) inside.push_back(static_cast<std::uint32_t>(i));
  }
  // Positions rise with ids, so position breaks ties as id does.
  const auto before = [this](std::uint32_t a, std::uint32_t b) {
    return scores_[a] != scores_[b] ? scores_[a] > scores_[b] : a < b;
  };
  auto low = inside.begin();
  auto high = inside.end();
  while (high - low > 64) {
    const auto middle = low + (high - low) / 2;
    std::nth_element(low, middle, high, before);
    std::uint64_t sum = 0;
    for (auto it = low; it != middle; ++it) sum += weight(*it);
    if (sum >= target) {
      high = middle;
    } else {
      target -= sum;
      low = middle;
    }
  }
  std::sort(low, high, before);
  auto end = low;
  while (end + 1 != high && weight(*end) < target) target -= weight(*end++);
  const std::uint32_t boundary = *end;
  keep_if([&](std::size_t i) {
    return i == boundary || before(static_cast<std::uint32_t>(i), boundary);
  });
}

template <typename Keep>
void Candidates::keep_if(const Keep& keep) {
  // The boundary is read through `keep` while entries move: decide first, move after.
  std::vector<std::uint32_t> kept;
  for (std::size_t i = 0; i < ids_.size(); ++i) {
    if (keep(i)) kept.push_back(static_cast<std::uint32_t>(i));
  }
  for (std::size_t to = 0; to < kept.size(); ++to) {
    ids_[to] = ids_[kept[to]];
    scores_[to] = scores_[kept[to]];
    if (!masses_.empty()) masses_[to] = masses_[kept[to]];
  }
  ids_.resize(kept.size());
  scores_.resize(kept.size());
  if (!masses_.empty()) masses_.resize(kept.size());
}

}  // namespace pd::engine
