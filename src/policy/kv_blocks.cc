#include "policy/kv_blocks.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace pd::policy {

Holder choose_victim(std::span<const EvictionCandidate> candidates) {
  CHECK(!candidates.empty());
  const auto goes_first = [](const EvictionCandidate& a, const EvictionCandidate& b) {
    const bool a_stays = a.evictions >= kEvictionsMax;
    const bool b_stays = b.evictions >= kEvictionsMax;
    if (a_stays != b_stays) return b_stays;
    if (a.placed_again != b.placed_again) return !a.placed_again;
    return a.output != b.output ? a.output < b.output : a.arrival > b.arrival;
  };
  return std::ranges::min_element(candidates, goes_first)->holder;
}

KvBlocks::KvBlocks(BlockCount total, Tokens block_tokens, const KvBlocksOptions& options)
    : total_(total),
      block_tokens_(block_tokens),
      options_(options),
      growth_(options.window, options.first_guess) {
  CHECK(total.value() >= 0);
  CHECK(block_tokens.value() >= 1);
  free_.reserve(static_cast<std::size_t>(total.value()));
  for (std::int64_t i = total.value(); i-- > 0;) {
    free_.push_back(BlockIndex(static_cast<std::uint32_t>(i)));
  }
}

KvAdmission KvBlocks::admit(const Holder& holder, const KvDemand& demand) {
  if (held_.contains(holder)) return KvAdmission::kDuplicate;
  // Untrusted lengths: compared before any arithmetic that could overflow.
  const std::int64_t room = total_.value() * block_tokens_.value();
  if (demand.kv_length.value() < 0 || demand.kv_length.value() >= room) {
    return KvAdmission::kTooLarge;
  }
  Held held{{}, demand.kv_length, demand.output, demand.output_max, BlockCount(0)};
  BlockCount now = blocks_for(demand.kv_length + Tokens(1), block_tokens_);
  if (demand.evictions >= kEvictionsMax) {
    const Tokens left(std::clamp<std::int64_t>(
        demand.output_max.value() - std::max<std::int64_t>(demand.output.value(), 0), 1, room));
    now = held.reserved = std::min(blocks_for(demand.kv_length + left, block_tokens_), total_);
  }
  if (now > free()) return KvAdmission::kBusy;
  if (options_.look_ahead && !held_.empty() &&
      need_with(&held) > static_cast<double>(total_.value())) {
    return KvAdmission::kBusy;
  }
  take(held, static_cast<std::size_t>(now.value()));
  held_.emplace(holder, std::move(held));
  return KvAdmission::kAccepted;
}

bool KvBlocks::grow(const Holder& holder, Tokens length) {
  const auto it = held_.find(holder);
  CHECK(it != held_.end());
  Held& held = it->second;
  const auto wanted = static_cast<std::size_t>(blocks_for(length, block_tokens_).value());
  if (wanted <= held.table.size()) return true;
  const std::size_t more = wanted - held.table.size();
  if (more > free_.size()) return false;
  take(held, more);
  return true;
}

void KvBlocks::on_output(const Holder& holder, Tokens output) {
  const auto it = held_.find(holder);
  if (it == held_.end()) return;
  it->second.kv_length += output - it->second.output;
  it->second.output = output;
}

void KvBlocks::release(const Holder& holder, bool finished) {
  const auto it = held_.find(holder);
  if (it == held_.end()) return;
  if (finished) {
    growth_.on_finished(it->second.output);
    caution_ *= 0.98;
  }
  // Reversed, so that the next holder gets them in the same order.
  free_.insert(free_.end(), it->second.table.rbegin(), it->second.table.rend());
  held_.erase(it);
}

void KvBlocks::evict(const Holder& holder) {
  caution_ += options_.deviations_per_eviction;
  release(holder, false);
}

std::span<const BlockIndex> KvBlocks::table(const Holder& holder) const {
  const auto it = held_.find(holder);
  if (it == held_.end()) return {};
  return it->second.table;
}

BlockCount KvBlocks::need() const {
  return BlockCount(static_cast<std::int64_t>(std::ceil(need_with(nullptr))));
}

Tokens KvBlocks::growth() const { return growth_.remaining(Tokens(1), Tokens(INT64_MAX)); }

Tokens KvBlocks::soonest_end() const {
  std::optional<Tokens> soonest;
  for (const auto& [holder, held] : held_) {
    const Tokens left = growth_.remaining(held.output, held.output_max);
    if (!soonest || left < *soonest) soonest = left;
  }
  return soonest.value_or(Tokens(0));
}

double KvBlocks::need_with(const Held* candidate) const {
  // More than the pool nobody can grow; the clamp also keeps the arithmetic small.
  const Tokens room(total_.value() * block_tokens_.value());
  std::vector<const Held*> all;
  for (const auto& [holder, held] : held_) all.push_back(&held);
  if (candidate != nullptr) all.push_back(candidate);
  Tokens horizon(0);
  for (const Held* held : all) {
    horizon = std::max(horizon, growth_.remaining_max(held->output, held->output_max));
  }
  horizon = std::min(horizon, room);
  // Moments a quarter further from now each: the need changes fast at first, and an answer must
  // take microseconds.
  double worst = 0.0;
  for (Tokens ahead(0); ahead <= horizon; ahead += Tokens(1 + ahead.value() / 4)) {
    double mean = 0.0;
    double variance = 0.0;
    for (const Held* held : all) {
      const double runs =
          ahead.value() == 0 ? 1.0 : growth_.goes_beyond(held->output, ahead, held->output_max);
      const BlockCount grown = blocks_for(held->kv_length + Tokens(1) + ahead, block_tokens_);
      const auto blocks = static_cast<double>(std::max(grown, held->reserved).value());
      mean += runs * blocks;
      variance += runs * (1.0 - runs) * blocks * blocks;
    }
    worst = std::max(worst, mean + (options_.deviations + caution_) * std::sqrt(variance));
  }
  return worst;
}

void KvBlocks::take(Held& held, std::size_t blocks) {
  CHECK(blocks <= free_.size());
  for (std::size_t i = 0; i < blocks; ++i) {
    held.table.push_back(free_.back());
    free_.pop_back();
  }
}

}  // namespace pd::policy
