#include "policy/tenant_limits.h"

#include <algorithm>

namespace pd::policy {

double QuotaBucket::left(Time now) const {
  if (as_of_ == Time{} || now <= as_of_) return left_;
  return std::min(per_minute_, left_ + to_seconds(now - as_of_) * per_minute_ / 60);
}

Duration QuotaBucket::wait_for(double amount, Time now) const {
  const double missing = std::min(amount, per_minute_) - left(now);
  if (missing <= 0) return Duration(0);
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(missing / per_minute_ * 60));
}

void QuotaBucket::take(double amount, Time now) {
  if (!limited()) return;
  left_ = left(now) - amount;
  as_of_ = std::max(as_of_, now);  // threads come with slightly different times
}

void TenantLimits::set_quota(TenantId tenant, const TenantQuota& quota, Time now) {
  Standing& standing = tenants_[tenant];
  const auto change = [now](QuotaBucket& bucket, std::int64_t per_minute) {
    if (bucket.per_minute() == static_cast<double>(per_minute)) return;
    const double used = bucket.per_minute() - bucket.left(now);
    bucket = QuotaBucket(per_minute);
    bucket.take(used, now);
  };
  change(standing.requests, quota.requests_per_minute);
  change(standing.tokens, quota.tokens_per_minute);
  standing.concurrency = quota.concurrency;
}

std::optional<TenantLimits::Refusal> TenantLimits::admit(TenantId tenant, Time now) {
  Standing& standing = tenants_[tenant];
  if (standing.concurrency > 0 && standing.running >= standing.concurrency) {
    // Nobody knows when one of them ends.
    return Refusal{Exceeded::kConcurrency, std::chrono::seconds(1)};
  }
  if (standing.requests.limited() && standing.requests.left(now) < 1)
    return Refusal{Exceeded::kRequests, standing.requests.wait_for(1, now)};
  // An overdrawn bucket refuses before anything is read.
  if (standing.tokens.limited() && standing.tokens.left(now) <= 0)
    return Refusal{Exceeded::kTokens, standing.tokens.wait_for(1, now)};
  standing.requests.take(1, now);
  ++standing.running;
  return std::nullopt;
}

std::optional<TenantLimits::Refusal> TenantLimits::admit_tokens(TenantId tenant, Tokens tokens,
                                                                Time now) {
  Standing& standing = tenants_[tenant];
  const auto amount = static_cast<double>(tokens.value());
  const Duration wait =
      standing.tokens.limited() ? standing.tokens.wait_for(amount, now) : Duration(0);
  if (wait > Duration(0)) return Refusal{Exceeded::kTokens, wait};
  standing.tokens.take(amount, now);
  return std::nullopt;
}

void TenantLimits::count_output(TenantId tenant, Tokens tokens, Time now) {
  tenants_[tenant].tokens.take(static_cast<double>(tokens.value()), now);
}

void TenantLimits::release(TenantId tenant) {
  Standing& standing = tenants_[tenant];
  standing.running = std::max(0, standing.running - 1);
}

TenantLimits::Standing TenantLimits::standing(TenantId tenant) const {
  const auto it = tenants_.find(tenant);
  return it == tenants_.end() ? Standing{} : it->second;
}

}  // namespace pd::policy
