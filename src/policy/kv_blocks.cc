#include "policy/kv_blocks.h"

#include <algorithm>

#include "base/check.h"

namespace pd::policy {

KvBlocks::KvBlocks(BlockCount total, Tokens block_tokens, const GrowthOptions& growth)
    : total_(total), block_tokens_(block_tokens), growth_(growth) {
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
  Held held{{}, demand.kv_length, demand.output, demand.output_max};
  const BlockCount now = blocks_for(demand.kv_length + Tokens(1), block_tokens_);
  if (now > free()) return KvAdmission::kBusy;
  if (!held_.empty() && now + growth(held) + reserve() > free()) {
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
  if (finished) growth_.on_finished(it->second.output);
  // Reversed, so that the next holder gets them in the same order.
  free_.insert(free_.end(), it->second.table.rbegin(), it->second.table.rend());
  held_.erase(it);
}

std::span<const BlockIndex> KvBlocks::table(const Holder& holder) const {
  const auto it = held_.find(holder);
  if (it == held_.end()) return {};
  return it->second.table;
}

BlockCount KvBlocks::reserve() const {
  BlockCount sum;
  for (const auto& [holder, held] : held_) sum += growth(held);
  return sum;
}

Tokens KvBlocks::soonest_end() const {
  std::optional<Tokens> soonest;
  for (const auto& [holder, held] : held_) {
    const Tokens left = growth_.remaining(held.output, held.output_max);
    if (!soonest || left < *soonest) soonest = left;
  }
  return soonest.value_or(Tokens(0));
}

// Blocks beyond those that the holder has (or, before it has any, needs at once).
BlockCount KvBlocks::growth(const Held& held) const {
  // More than the pool cannot be kept free for anyone; the clamp also keeps the sums small.
  const Tokens room(total_.value() * block_tokens_.value());
  const Tokens further = std::min(growth_.remaining(held.output, held.output_max), room);
  const BlockCount end = blocks_for(held.kv_length + Tokens(1) + further, block_tokens_);
  const BlockCount now = held.table.empty()
                             ? blocks_for(held.kv_length + Tokens(1), block_tokens_)
                             : BlockCount(static_cast<std::int64_t>(held.table.size()));
  return std::max(end - now, BlockCount(0));
}

void KvBlocks::take(Held& held, std::size_t blocks) {
  CHECK(blocks <= free_.size());
  for (std::size_t i = 0; i < blocks; ++i) {
    held.table.push_back(free_.back());
    free_.pop_back();
  }
}

}  // namespace pd::policy
